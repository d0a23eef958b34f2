"""Measured files: readers, calibration, windows; on made-up spectra, and on real ones where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from structlog.testing import capture_logs

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.files import read_map, read_measured
from quietbeam.spectra import (
    SpectralMap,
    find_lines,
    line_energy,
    overlaps,
    resolution_fwhm,
    spectra_to_lines,
    window,
)

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CALIBRATION = [[0.02, 0.01], [-0.03, 0.0102]]


def real(name: str) -> Path:
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not here: measured data are not part of the repository")
    return DATA / name


def made_up(rates: dict[str, float], *, true: list[list[float]] = CALIBRATION, seed: int = 0) -> np.ndarray:
    """Spectra (row 5, col 4, detector, channel) with peaks at the lines (counts per pixel each) on a background."""
    rng = np.random.default_rng(seed)
    mean = np.full((len(true), 1200), 0.05)
    for d, (offset, width) in enumerate(true):
        energy = offset + width * np.arange(1200)
        for line, rate in rates.items():
            sigma = resolution_fwhm(line_energy(line)) / 2.3548
            mean[d] += (
                rate * width / sigma / np.sqrt(2 * np.pi) * np.exp(-0.5 * ((energy - line_energy(line)) / sigma) ** 2)
            )
    return rng.poisson(mean, (5, 4, len(true), 1200)).astype(np.int32)


def write(folder: Path, **arrays: Any) -> Path:
    path = folder / "rock_7.npz"
    np.savez(path, **arrays)
    return path


def calibrate(folder: Path, pairs: Any = CALIBRATION, name: str = "rock_energy_calibration.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"note": "words", "rock": pairs}))
    return path


def test_windows_follow_each_detectors_calibration() -> None:
    for pair in CALIBRATION:
        low, stop = window("Fe_Ka", np.array(pair), 1200)
        first, last = pair[0] + pair[1] * low, pair[0] + pair[1] * (stop - 1)
        half = 0.85 * resolution_fwhm(line_energy("Fe_Ka"))
        assert line_energy("Fe_Ka") - half <= first < first + pair[1] < last <= line_energy("Fe_Ka") + half
        assert last - first > 2 * half - 2 * pair[1]
    assert window("Zn_Ka", np.array([0.0, 0.001]), 1200) == (1200, 1200), "beyond the spectrum"


@pytest.mark.supports("file in", ".npz with `spectra`")
def test_lines_are_found_and_counted(tmp_path: Path) -> None:
    rates = {"S_Ka": 20.0, "Ca_Ka": 200.0, "Ca_Kb": 26.0, "Fe_Ka": 60.0, "Fe_Kb": 8.0}
    spectra = made_up(rates)
    path = write(tmp_path, spectra=spectra)
    calibrate(tmp_path)
    measured = read_measured(path)
    assert isinstance(measured, SpectralMap) and measured.info.shape == (5, 4)
    result = spectra_to_lines(measured)
    assert result.lines == ("S_Ka", "Ca_Ka", "Fe_Ka"), "Kb lines are not named again"
    assert result.counts.dtype == np.uint32 and result.counts.shape == (2, 3, 5, 4)
    mean = result.counts.mean((0, 2, 3))
    assert mean == pytest.approx([0.954 * rates[line] for line in result.lines], rel=0.12)
    low, stop = window("Ca_Ka", np.array(CALIBRATION[1]), 1200)
    assert np.array_equal(result.counts[1, 1], spectra[:, :, 1, low:stop].sum(-1)), "exactly the channels of the window"


def test_only_the_lines_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, spectra=made_up({"Ca_Ka": 50.0, "Fe_Ka": 50.0}))
    measured = read_measured(path, calibrate(tmp_path, name="elsewhere.json"))
    assert isinstance(measured, SpectralMap)
    with capture_logs() as logs:
        assert spectra_to_lines(measured, ["Fe_Ka", "Ni_Ka"]).lines == ("Fe_Ka", "Ni_Ka")
    silent = [entry for entry in logs if entry["event"] == "no_peak"]
    assert [entry["line"] for entry in silent] == ["Ni_Ka"] and silent[0]["detectors"] == ["det1", "det2"]


def test_a_calibration_that_hits_no_peak_is_refused_with_the_peaks(tmp_path: Path) -> None:
    path = write(tmp_path, spectra=made_up({"Ca_Ka": 50.0, "Fe_Ka": 50.0}))
    wrong = read_measured(path, calibrate(tmp_path, [[0.0, 0.013], [0.0, 0.013]]))
    assert isinstance(wrong, SpectralMap)
    with pytest.raises(FileFormatError, match=r"no peak at Ca_Ka, Fe_Ka.*det1: .*4\.7.*8\.2") as caught:
        spectra_to_lines(wrong, ["Ca_Ka", "Fe_Ka"])
    assert "calibration" in str(caught.value)


def test_one_displaced_detector_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, spectra=made_up({"Fe_Ka": 100.0}))
    off = [CALIBRATION[0], [CALIBRATION[1][0] + 0.13, CALIBRATION[1][1]]]
    measured = read_measured(path, calibrate(tmp_path, off))
    assert isinstance(measured, SpectralMap)
    with capture_logs() as logs:
        spectra_to_lines(measured, ["Fe_Ka"])
    warned = [entry for entry in logs if entry["event"] == "peak_off_its_line"]
    assert len(warned) == 1 and warned[0]["detector"] == "det2" and warned[0]["off_ev"] == pytest.approx(130, abs=25)


def test_overlapping_windows_are_named() -> None:
    assert ("Mn_Ka", "Cr_Kb") in overlaps(["Cr_Ka", "Mn_Ka"])
    pairs = overlaps(["Pb_La", "As_Ka"])
    assert ("Pb_La", "As_Ka") in pairs and ("As_Ka", "Pb_La") in pairs
    assert overlaps(["P_Ka", "Ca_Ka", "Zn_Ka"]) == []


def test_an_empty_spectrum_has_no_lines() -> None:
    assert find_lines(np.zeros((2, 1200)), np.array(CALIBRATION)) == ()
    flat = np.random.default_rng(1).poisson(5.0, (2, 1200)).astype(float)
    assert find_lines(flat, np.array(CALIBRATION)) == ()


def test_counts_with_lines_are_taken_as_they_are(tmp_path: Path) -> None:
    counts = np.random.default_rng(2).poisson(3.0, (2, 2, 4, 5)).astype(float)
    counts[:, :, 1, 2] = np.nan
    path = write(tmp_path, counts=counts, lines=["P_Ka", "Fe_Ka"], i0=np.ones((4, 5)), dwell_s=0.1)
    measured = read_map(path).line_map("rock")
    assert measured.lines == ("P_Ka", "Fe_Ka") and measured.counts.dtype == np.uint32
    assert not measured.measured[1, 2] and measured.measured.sum() == 19
    assert np.array_equal(measured.counts, np.nan_to_num(counts).astype(int)) and measured.info.dwell_s == 0.1
    fitted = read_map(write(tmp_path, counts=counts + 0.5, lines=["P_Ka", "Fe_Ka"])).line_map("rock")
    assert fitted.counts.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"counts": np.ones((2, 1, 3, 3))}, "lines"),
        ({"counts": np.ones((2, 1, 3, 3)), "lines": ["iron"]}, "Fe_Ka, Pt_La but iron"),
        ({"counts": np.ones((2, 2, 3, 3)), "lines": ["Fe_Ka"]}, "2 lines"),
        ({"counts": np.ones((2, 1, 3)), "lines": ["Fe_Ka"]}, "detector, line, row, col"),
        ({"counts": np.full((2, 1, 3, 3), -1), "lines": ["Fe_Ka"]}, "negative"),
        ({"counts": np.ones((2, 1, 3, 3), int), "lines": ["Fe_Ka"], "i0": np.ones(3)}, "i0"),
        ({"spectra": np.ones((9, 2, 50), int)}, "positions"),
        ({"spectra": np.ones((9, 2, 50), int), "pos": np.zeros((9, 2))}, "same position"),
        ({"spectra": np.ones((9, 2, 50), int), "pos": np.full((9, 2), np.nan)}, "not numbers"),
        ({"spectra": np.ones((3, 3, 2, 50))}, "integer counts"),
        ({"spectra": np.ones((3, 3, 2, 50), int)}, "--calibration"),
        ({"other": np.ones(3)}, "other"),
        ({"counts": np.array([{}], object), "lines": ["Fe_Ka"]}, "`counts` holds Python objects"),
    ],
)
def test_unusable_files_are_refused_with_a_remedy(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_map(write(tmp_path, **arrays)).line_map("rock")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        read_map(tmp_path / "gone.npz")
    for name in ("bad.npz", "bad.h5", "bad.txt"):
        (tmp_path / name).write_bytes(b"garbage")
        with pytest.raises(FileFormatError, match=name):
            read_map(tmp_path / name)
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(FileFormatError, match="MAPS_RAW"):
        read_map(tmp_path / "empty.h5")


@pytest.mark.parametrize(
    "pairs", [[[0.0, 0.01]], [[0.0, 0.01]] * 3, [[0.0, -0.01]] * 2, [[0.0, "x"]] * 2, [["nan", 0.01]] * 2]
)
def test_wrong_calibrations_are_refused(tmp_path: Path, pairs: Any) -> None:
    path = write(tmp_path, spectra=made_up({"Fe_Ka": 9.0}))
    with pytest.raises(FileFormatError):
        read_measured(path, calibrate(tmp_path, pairs))


def test_the_rock() -> None:
    measured = read_measured(real("pixl_laguna_salinas.npz"))
    assert isinstance(measured, SpectralMap)
    assert measured.info.shape == (25, 25) and len(measured.info.detectors) == 2
    assert measured.info.live_time_s is not None and measured.info.live_time_s.shape == (2, 25, 25)
    lines = spectra_to_lines(measured)
    assert {"Si_Ka", "S_Ka", "Cl_Ka", "K_Ka", "Ca_Ka", "Ti_Ka", "Mn_Ka", "Fe_Ka"} <= set(lines.lines)
    totals = dict(zip(lines.lines, lines.counts.sum((0, 2, 3)), strict=True))
    assert max(totals, key=totals.__getitem__) == "Ca_Ka"


def test_the_thin_film_needs_its_own_calibration(tmp_path: Path) -> None:
    path = real("aps_2ide_axo_std.npz")
    good = read_measured(path)
    assert isinstance(good, SpectralMap) and good.info.i0 is not None
    lines = spectra_to_lines(good, ["Ca_Ka", "Fe_Ka", "Cu_Ka"])
    sensitivity = lines.counts.sum((1, 2, 3)) / lines.counts.sum() * 4
    assert sensitivity == pytest.approx([1.28, 1.23, 0.69, 0.80], abs=0.03)
    chi2 = lines.counts.var((2, 3)) / lines.counts.mean((2, 3))
    assert chi2.max() < 2, "the film is uniform"
    (tmp_path / path.name).symlink_to(path)
    header = read_measured(tmp_path / path.name)
    assert isinstance(header, SpectralMap)
    with capture_logs() as logs:
        spoiled = spectra_to_lines(header, ["Ca_Ka", "Fe_Ka", "Cu_Ka"])
    assert spoiled.counts[:, 1].sum() < 0.8 * lines.counts[:, 1].sum()
    assert any(entry["event"] in ("no_peak", "peak_off_its_line") for entry in logs)


def test_the_fly_scan_has_two_shadowed_detectors() -> None:
    measured = read_measured(real("aps_2ide_fly.h5"))
    assert isinstance(measured, SpectralMap) and measured.info.shape == (11, 9)
    assert measured.info.live_time_s is not None
    exposure = measured.info.live_time_s.mean((0, 1))
    assert exposure[0] > 2 * exposure[1:].max(), "the first column was exposed longer"
    lines = spectra_to_lines(measured, ["Ca_Ka", "Fe_Ka"])
    seen = lines.counts.sum((1, 2, 3))
    assert seen[2:].max() < 0.02 * seen[:2].min()


@pytest.mark.supports("geometry", "files: points with positions, put on a grid")
def test_points_with_positions_are_put_on_a_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    row, col = np.divmod(rng.permutation(20)[:17], 5)
    where = np.stack([3.0 + 0.5 * col, -7.0 + 0.5 * row], axis=1) + rng.uniform(-0.02, 0.02, (17, 2))
    spectra = made_up({"Ca_Ka": 90.0, "Fe_Ka": 60.0}).reshape(20, 2, 1200)[:17]
    twice = np.concatenate([spectra, spectra[:1]])  # a point that was measured again
    file = read_map(
        write(tmp_path, spectra=twice, pos=np.concatenate([where, where[:1]])), ["Fe_Ka"], calibrate(tmp_path)
    )
    assert file.measured is not None and file.measured.shape == (4, 5) and file.measured.sum() == 17
    low, stop = window("Fe_Ka", np.array(CALIBRATION[0]), 1200)
    want = spectra[:, 0, low:stop].sum(-1)
    want[0] *= 2
    assert np.array_equal(file.counts[0, 0][row, col], want)


def test_the_points_on_mars() -> None:
    file = read_map(real("pixl_beaujeu.npz"))
    assert file.lines is not None and {"Ca_Ka", "Fe_Ka", "Si_Ka"} <= set(file.lines)
    assert file.counts.shape[2:] == (15, 15) and file.measured is not None and file.measured.mean() > 0.9
    assert file.live_time_s is not None and np.median(file.live_time_s[:, file.measured]) == pytest.approx(
        18.5, abs=0.5
    )
