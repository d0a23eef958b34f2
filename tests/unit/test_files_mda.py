"""EPICS MDA: files made by a writer of its own, after docs/MDAFormat.md of epics-modules/sscan."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from quietbeam.core.errors import FileFormatError
from quietbeam.files import read_map
from quietbeam.spectra import line_energy, resolution_fwhm, window

ROWS, COLS, DETECTORS, CHANNELS = 3, 4, 2, 1100
CALIBRATION = [[0.01, 0.01], [-0.02, 0.0101]]


def text(value: str) -> bytes:
    n = len(value)
    return struct.pack(">i", n) + (struct.pack(">i", n) + value.encode() + bytes(-n % 4) if n else b"")


def scan(points: int, done: int, detectors: dict[str, np.ndarray], below: list[int] | None, at: int = 0) -> bytes:
    """One scan with a positioner, its detectors (name|description) and a trigger; `below` are addresses."""
    rank = 1 if below is None else 2 if len(below) == COLS else 3
    out = struct.pack(">iii", rank, points, done) + (struct.pack(f">{points}i", *below) if below else b"")
    out += text("2xfm:scan1") + text("Nov 25, 2026 22:30:00") + struct.pack(">iii", 1, len(detectors), 1)
    out += struct.pack(">i", 0) + b"".join(map(text, ["2xfm:m13.VAL", "X", "LINEAR", "um", "2xfm:m13.RBV", "", "um"]))
    for number, name in enumerate(detectors):
        first, _, second = name.partition("|")
        out += struct.pack(">i", number) + text(first) + text(second) + text("")
    out += struct.pack(">i", 0) + text("2xfm:trigger") + struct.pack(">f", 1.0)
    out += np.arange(points).astype(">f8").tobytes()
    return out + b"".join(values.astype(">f4").tobytes() for values in detectors.values())


def mda_file(path: Path, spectra: np.ndarray, done: int = ROWS * COLS) -> Path:
    """Write the first `done` pixels of (row, col, detector, channel)."""
    head_size = 4 * (2 + 1 + 3 + 2)
    body = bytearray(head_size)

    def put(block: bytes) -> int:
        body.extend(block)
        return len(body) - len(block)

    # The addresses of lower scans are not known before they are written: scans are written twice.
    rows_at, slots = [], []
    top_at = put(scan(ROWS, done // COLS, {}, [0] * ROWS))
    for row in range(ROWS):
        here = min(max(done - row * COLS, 0), COLS)
        if not here:
            rows_at.append(0)
            continue
        rate = np.full(COLS, 1e4 * (row + 1))
        beside = {f"dxp:mca{d}.ERTM|": np.full(COLS, 0.5) for d in range(1, DETECTORS + 1)} | {
            f"dxp:dxp{d}:InputCountRate|": rate for d in range(1, DETECTORS + 1)
        }
        beside |= {f"dxp:dxp{d}:OutputCountRate|": 0.8 * rate for d in range(1, DETECTORS + 1)}
        beside |= {"2xfm:scaler3_cts1.B|US_IC": np.arange(1, COLS + 1) * 100.0}
        row_at = put(scan(COLS, here, beside, [0] * COLS))
        pixels = []
        for col in range(COLS):
            one = {f"dxp:mca{d + 1}.VAL|": spectra[row, col, d] for d in range(DETECTORS)}
            pixels.append(put(scan(CHANNELS, CHANNELS, one, None)) if col < here else 0)
        rows_at.append(row_at)
        slots.append((row_at, scan(COLS, here, beside, pixels)))
    for at, block in [*slots, (top_at, scan(ROWS, done // COLS, {}, rows_at))]:
        body[at : at + len(block)] = block
    extra = struct.pack(">i", 2 * DETECTORS + 1) + text("2xfm:comment") + text("") + struct.pack(">i", 0) + text("film")
    for d, (offset, width) in enumerate(CALIBRATION):
        for name, value in (("CALO", offset), ("CALS", width)):
            extra += text(f"dxp:mca{d + 1}.{name}") + text("") + struct.pack(">ii", 34, 1) + text("keV")
            extra += struct.pack(">d", value)
    body[:head_size] = struct.pack(">fi4iii", 1.4, 123, 3, ROWS, COLS, CHANNELS, 1, put(extra))
    path.write_bytes(bytes(body))
    return path


@pytest.fixture(scope="module")
def spectra() -> np.ndarray:
    rng, mean = np.random.default_rng(5), np.full((DETECTORS, CHANNELS), 0.02)
    for d, (offset, width) in enumerate(CALIBRATION):
        energy = offset + width * np.arange(CHANNELS)
        for line in ("Ca_Ka", "Fe_Ka"):
            sigma = resolution_fwhm(line_energy(line)) / 2.355
            mean[d] += 80 * width / sigma / 2.507 * np.exp(-0.5 * ((energy - line_energy(line)) / sigma) ** 2)
    return rng.poisson(mean, (ROWS, COLS, DETECTORS, CHANNELS))


@pytest.mark.supports("file in", "EPICS MDA, step scans with spectra")
def test_mda(tmp_path: Path, spectra: np.ndarray) -> None:
    file = read_map(mda_file(tmp_path / "2xfm_0123.mda", spectra), ["Fe_Ka"])
    for d in range(DETECTORS):
        low, stop = window("Fe_Ka", np.array(CALIBRATION[d]), CHANNELS)
        assert np.array_equal(file.counts[d, 0], spectra[:, :, d, low:stop].sum(-1))
    assert file.detectors == ("det1", "det2") and file.measured is not None and file.measured.all()
    assert file.live_time_s is not None and np.allclose(file.live_time_s, 0.4), "real time x output / input rate"
    assert file.i0 is not None and np.array_equal(file.i0, np.tile(np.arange(1, COLS + 1) * 100.0, (ROWS, 1)))
    assert file.metadata["dwell_s"] == 0.5


def test_an_interrupted_scan_has_pixels_that_are_not_measured(tmp_path: Path, spectra: np.ndarray) -> None:
    file = read_map(mda_file(tmp_path / "2xfm_0124.mda", spectra, done=6), ["Fe_Ka"])
    assert file.measured is not None and np.array_equal(file.measured.ravel(), np.arange(ROWS * COLS) < 6)


def test_what_is_wrong_with_an_mda_file(tmp_path: Path, spectra: np.ndarray) -> None:
    whole = mda_file(tmp_path / "a.mda", spectra).read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "half.mda").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(FileFormatError, match="half-written"):
            read_map(tmp_path / "half.mda", ["Fe_Ka"])
    (tmp_path / "fly.mda").write_bytes(
        struct.pack(">fi2iii", 1.3, 5, 1, COLS, 1, 0) + scan(COLS, COLS, {"2xfm:scaler|": np.ones(COLS)}, None)
    )
    with pytest.raises(FileFormatError, match="without spectra"):
        read_map(tmp_path / "fly.mda")
    (tmp_path / "no.json").write_text(json.dumps({"a": [[0.0, 0.013]] * DETECTORS}))
    with pytest.raises(FileFormatError, match=r"Peaks found, in keV: det1: 4\.78.*calibration"):
        read_map(tmp_path / "a.mda", ["Fe_Ka"], tmp_path / "no.json")


def test_a_row_that_was_stopped_keeps_its_i0(
    tmp_path: Path, spectra: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """saveData writes whole rows: what was not reached is 0 in every detector."""
    whole = scan

    def stopped(points: int, done: int, detectors: dict, below: list[int] | None, at: int = 0) -> bytes:
        cut = {k: np.where(np.arange(points) < done, v, 0) if len(v) == points else v for k, v in detectors.items()}
        return whole(points, done, cut, below, at)

    monkeypatch.setattr("test_files_mda.scan", stopped)
    file = read_map(mda_file(tmp_path / "2xfm_0125.mda", spectra, done=6), ["Fe_Ka"])
    reached = np.arange(ROWS * COLS).reshape(ROWS, COLS) < 6
    assert file.measured is not None and np.array_equal(file.measured, reached)
    assert file.i0 is not None and np.array_equal(file.i0[reached], [100, 200, 300, 400, 100, 200])
    assert "I0 is US_IC" in file.remark and "not positive" not in file.remark


def test_positions_and_units_of_the_motors(tmp_path: Path, spectra: np.ndarray) -> None:
    file = read_map(mda_file(tmp_path / "2xfm_0126.mda", spectra), ["Fe_Ka"])
    assert file.order == "verified" and file.units == "um" and file.axes is not None and file.axes.names == ("X", "X")
    assert file.step == pytest.approx((1, 1)) and file.origin == pytest.approx((0, 0), abs=1e-9)
    assert file.positions is not None and np.array_equal(file.positions[1, 0], np.arange(COLS))
