"""`quietbeam calibrate` and `quietbeam denoise --units ug/cm2`, on made-up spectra and on a real film."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from quietbeam.batch.found import find
from quietbeam.batch.job import run_job
from quietbeam.batch.offline import Reading, Writing
from quietbeam.batch.plan import plan
from quietbeam.cli import app
from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings, load_settings
from quietbeam.denoiser.options import DenoiseOptions

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
STANDARD = "FILENAME: film.npz\nELEMENTS_IN_STANDARD: Ca, Fe\nWEIGHT: 2.0, 0.5\n"


def film(folder: Path, name: str, scale: float = 1.0, dwell_s: float = 1.0) -> Path:
    """A map of Ca and Fe, 8 x 9 pixels and two detectors, at I0 of 1e5 per second of dwell."""
    rng = np.random.default_rng(1)
    rates = np.array([[400.0, 250.0], [300.0, 200.0]]) * scale * dwell_s  # (detector, line)
    path = folder / name
    np.savez(
        path,
        counts=rng.poisson(np.broadcast_to(rates[:, :, None, None], (2, 2, 8, 9))),
        lines=["Ca_Ka", "Fe_Ka"],
        i0=np.full((8, 9), 1e5 * dwell_s),
        live_time_s=np.full((2, 8, 9), 0.9 * dwell_s),
        dwell_s=dwell_s,
    )
    return path


def real(name: str) -> Path:
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not here: measured data are not part of the repository")
    return DATA / name


def quietbeam(folder: Path, *arguments: object) -> Result:
    """Run a command with its data in `folder`."""
    (folder / "c.yaml").write_text(f"data_dir: {folder / 'data'}\n", encoding="utf-8")
    return CliRunner().invoke(app, [*map(str, arguments), "-c", str(folder / "c.yaml")], catch_exceptions=False)


def test_another_dwell_gives_the_same_areal_density(tmp_path: Path) -> None:
    (tmp_path / "std.txt").write_text(STANDARD, encoding="utf-8")
    made = quietbeam(
        tmp_path,
        *("calibrate", film(tmp_path, "film.npz"), "film", "--standard", tmp_path / "std.txt"),
        *("--beam-energy", 10, "--standard-error", 2),
    )
    assert made.exit_code == 0 and "windows hold background" in " ".join(made.output.split())
    kept = json.loads((tmp_path / "data/calibrations/film.json").read_text(encoding="utf-8"))
    assert kept["energy_kev"] == 10 and kept["i0"] == 1e5 and kept["lines"][0]["line"] == "Ca_Ka"
    sample = film(tmp_path, "sample.npz", scale=3.0, dwell_s=0.2)
    done = quietbeam(
        tmp_path,
        *(
            "denoise",
            sample,
            "-o",
            tmp_path / "out.h5",
            "--steps",
            0,
            "--units",
            "ug/cm2",
            "--areal-calibration",
            "film",
        ),
    )
    assert done.exit_code == 0 and "Self-absorption is not corrected" in " ".join(done.output.split())
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["entry/denoised/data"].attrs["units"] == "ug/cm2"
        means = file["entry/denoised/data"][()].mean((1, 2))
        assert means == pytest.approx([6.0, 1.5], rel=0.02)
        error = file["entry/uncertainty/data"][()].mean((1, 2))
        assert (error > 0.02 * means).all(), "the standard's error is in the error bars"
        assert "film" in file["entry/process/settings"][()].decode()
    rate = quietbeam(tmp_path, "denoise", sample, "-o", tmp_path / "rate.maps.h5", "--steps", 0, "--units", "counts/s")
    assert rate.exit_code == 0
    with h5py.File(tmp_path / "rate.maps.h5") as file:
        data = file["MAPS/XRF_Analyzed/ROI/Counts_Per_Sec"]
        assert data.attrs["units"] == "counts/s"
        # detectors are live for 0.18 s; 3 times the film's counts in 0.2 s
        assert data[0].mean() == pytest.approx(3 * 700 * 0.2 / 0.18, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--beam-energy", 10000), "give it in keV"),
        (("--beam-energy", 3), "has none of the standard's lines"),
        (("--beam-energy", 10, "--margin", 5), "take a smaller --margin"),
        (("--beam-energy", 10, "--i0", "none"), "--i0 has no use here"),
        (("--beam-energy", 10, "--pyxrf", "sum"), "name it with --output"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, arguments: tuple[object, ...], words: str) -> None:
    (tmp_path / "std.txt").write_text(STANDARD, encoding="utf-8")
    path = film(tmp_path, "film.npz")
    with pytest.raises(InputError, match=words):
        quietbeam(tmp_path, "calibrate", path, "film", "--standard", tmp_path / "std.txt", *arguments)
    assert not (tmp_path / "data/calibrations").exists()


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: object) -> None:
        raise AssertionError("a map was denoised whose unit cannot be had")

    for module in ("offline", "job"):
        monkeypatch.setattr(f"quietbeam.batch.{module}.denoise_map", computed)


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize("command", ["denoise", "batch"])
def test_what_is_missing_for_areal_densities_is_said_before_anything_is_computed(tmp_path: Path, command: str) -> None:
    path = film(tmp_path, "film.npz")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    output = tmp_path / ("o.h5" if command == "denoise" else "results")
    for more, words in (
        ((), "need a calibration: name it"),
        (("--areal-calibration", "no"), "no calibration 'no'"),
        (("--areal-calibration", tmp_path / "broken.json"), "broken.json cannot be read as a calibration"),
    ):
        with pytest.raises(InputError, match=words):
            quietbeam(tmp_path, command, path, "-o", output, "--steps", 0, "--units", "ug/cm2", *more)
    assert not output.exists()


@pytest.mark.usefixtures("nothing_computed")
def test_a_map_that_does_not_fit_its_calibration_is_refused_before_it_is_denoised(tmp_path: Path) -> None:
    (tmp_path / "std.txt").write_text(STANDARD, encoding="utf-8")
    standard = film(tmp_path, "film.npz")
    quietbeam(tmp_path, "calibrate", standard, "film", "--standard", tmp_path / "std.txt", "--beam-energy", 10)
    with np.load(standard) as whole:
        parts = {name: whole[name] for name in whole.files}
    cases = {
        "without_i0": ({name: parts[name] for name in parts if name != "i0"}, "this run has no I0"),
        "other_detectors": (parts | {"detectors": ["a", "b"]}, "this run has a, b"),
        "areas": (parts | {"counts": parts["counts"] - 0.5}, "this map holds fitted areas"),
        "no_line": (parts | {"lines": ["Ba_La", "Y_Ka"]}, "no line has ug/cm2"),
    }
    for name, (arrays, words) in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        options = ("--steps", 0, "--units", "ug/cm2", "--areal-calibration", "film")
        with pytest.raises(InputError, match=words):
            quietbeam(tmp_path, "denoise", tmp_path / f"{name}.npz", "-o", tmp_path / "o.h5", *options)
        reading, writing = Reading(), Writing(units="ug/cm2", areal_calibration="film")
        search = find([str(tmp_path / f"{name}.npz")], Settings(), tmp_path / "results")
        site = load_settings(tmp_path / "c.yaml")
        quick = DenoiseOptions(fine_tune=False, device="cpu")
        (job,) = plan(search.found, tmp_path / "results", reading, writing, quick, site, str(tmp_path / "c.yaml"))
        outcome = run_job(job)
        assert outcome.status == "failed" and words in outcome.error
    no_time = {name: parts[name] for name in parts if name not in ("dwell_s", "live_time_s")}
    np.savez(tmp_path / "no_time.npz", **no_time)
    with pytest.raises(InputError, match="counts/s need the live time or the dwell"):
        quietbeam(tmp_path, "denoise", tmp_path / "no_time.npz", "-o", tmp_path / "o.h5", "--units", "counts/s")


def test_the_real_film_by_its_command(tmp_path: Path) -> None:
    source = real("aps_2ide_axo_std.npz")
    made = quietbeam(
        tmp_path,
        *("calibrate", source, "axo", "--standard", real("aps_2ide_axo_standard.txt"), "--beam-energy", 10),
        *("--lines", "Zn_Ka", "--output", tmp_path / "px.json", "--pyxrf", "det2"),
    )
    assert made.exit_code == 0 and "Zn_Ka" in made.output and "computed" in made.output
    data = json.loads((tmp_path / "px.json").read_text(encoding="utf-8"))
    assert data["scaler_name"] == "2xfm_scaler3_cts1.B" and data["detector_channel"] == "det2"
    assert set(data["element_lines"]) == {"Ca_K", "Fe_K", "Cu_K"}, "PyXRF's file holds lines of the standard alone"
