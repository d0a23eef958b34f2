"""Pixel lists of GeoPIXE."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from quietbeam.core.errors import FileFormatError
from quietbeam.files.read import read_map, read_spectra

SHAPE, CHANNELS, DETECTORS = (5, 7), 1024, (0, 3)
HEADER = {
    "Xres": SHAPE[1],
    "Yres": SHAPE[0],
    "Width (mm)": 14.0,
    "Height (mm)": 5.0,
    "Chan": CHANNELS,
    "Gain (eV)": 10.0,
    "Dwell (mS)": 50.0,
}


def spectra(seed: int = 0) -> np.ndarray:
    """Return counts (row, col, detector, channel): iron at 6.4 keV, more to the right and below."""
    rng = np.random.default_rng(seed)
    row, col = np.indices(SHAPE)
    found = rng.poisson(0.02, (*SHAPE, len(DETECTORS), CHANNELS))
    found[..., 635:646] += rng.poisson((10 * row + col)[..., None, None], (*SHAPE, len(DETECTORS), 11))
    return found.astype(np.uint32)


def record(row: int, col: int, detector: int, counts: np.ndarray) -> bytes:
    channels = np.flatnonzero(counts)
    pairs = np.stack([channels, counts[channels]], 1).astype("<u2").tobytes()
    return struct.pack("<2sIHHHf", b"DP", 16 + len(pairs), col, row, detector, 12.5) + pairs


def write(path: Path, counts: np.ndarray, skip: set[tuple[int, int]] = frozenset(), **header: object) -> Path:
    head = json.dumps({"File Header": HEADER | header}).encode()
    parts = [struct.pack("<H", len(head)), head]
    for row, col in np.ndindex(*SHAPE):
        for d, number in enumerate(DETECTORS):
            if (row, col) not in skip or d == 0:
                parts.append(record(row, col, number, counts[row, col, d]))
    path.write_bytes(b"".join(parts))
    return path


def test_spectra_lie_in_their_pixels(tmp_path: Path) -> None:
    counts = spectra()
    found = read_spectra(write(tmp_path / "map.GeoPIXE", counts))
    assert found is not None
    block = next(found.blocks())
    np.testing.assert_array_equal(block.counts.reshape(counts.shape), counts)
    assert found.info.detectors == ("det0", "det3") and found.info.dwell_s == 0.05
    assert found.info.axes is not None and found.info.axes.step == (1.0, 2.0) and found.info.axes.units == "mm"
    np.testing.assert_allclose(found.calibration, [[0, 0.01]] * 2)
    assert any("dead times are not used" in remark for remark in found.info.remarks)


def test_a_line_is_cut_out(tmp_path: Path) -> None:
    counts = spectra()
    found = read_map(write(tmp_path / "map.GeoPIXE", counts), ["Fe_Ka"])
    assert found.counts.shape == (2, 1, *SHAPE)
    whole = counts[..., 635:646].sum((2, 3))
    assert np.corrcoef(found.counts.sum((0, 1)).ravel(), whole.ravel())[0, 1] > 0.99


def test_pixels_without_a_record_of_each_detector_are_not_measured(tmp_path: Path) -> None:
    missing = {(1, 2), (4, 6)}
    found = read_map(write(tmp_path / "map.GeoPIXE", spectra(), missing), ["Fe_Ka"])
    assert found.measured is not None
    assert {tuple(at) for at in np.argwhere(~found.measured).tolist()} == missing


def test_a_file_that_was_cut_lacks_its_last_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "map.GeoPIXE", spectra())
    path.write_bytes(path.read_bytes()[:-3])
    found = read_map(path, ["Fe_Ka"])
    assert found.measured is not None and np.argwhere(~found.measured).tolist() == [[4, 6]]
    assert "the file was cut" in found.remark


def test_a_pixel_with_two_records_is_not_measured(tmp_path: Path) -> None:
    counts = spectra()
    path = write(tmp_path / "map.GeoPIXE", counts)
    path.write_bytes(path.read_bytes() + record(2, 3, 0, counts[2, 3, 0]))
    found = read_map(path, ["Fe_Ka"])
    assert found.measured is not None and np.argwhere(~found.measured).tolist() == [[2, 3]]
    assert "1 pixels have two records" in found.remark


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[2:], "no pixel list"),
        (lambda data: b"DP" + data, "header is missing"),
        (lambda data: data.replace(b"DP", b"XX", 20), "begins no record"),
        (lambda data: data[: 2 + int.from_bytes(data[:2], "little")], "holds no pixel"),
        (lambda data: data.replace(b'"Chan": 1024', b'"Chan": 640 '), "the header says 640 channels"),
        (lambda data: data.replace(b'"Xres": 7', b'"Xres": 3'), "begins no record"),
        (lambda data: data.replace(b'"Xres": 7, "Yres": 5', b'"Xres": Infinity    '), "no pixel list"),
        (lambda data: data.replace(b'"Xres": 7, ', b'"Xres": 7.9,'[:11]), "no pixel list"),
    ],
)
def test_damage_is_named(damage, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "map.GeoPIXE", spectra())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match=says):
        read_map(path, ["Fe_Ka"])


@pytest.mark.parametrize("value", [-50.0, 0, float("nan"), float("inf")])
def test_times_and_sizes_that_cannot_be_are_not_known(value: float, tmp_path: Path) -> None:
    found = read_spectra(write(tmp_path / "map.GeoPIXE", spectra(), **{"Dwell (mS)": value, "Width (mm)": value}))
    assert found is not None and found.info.dwell_s is None and found.info.axes is None
