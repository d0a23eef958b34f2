"""Every count in its right pixel: scans of all orders, found from the positions of the motors, or said by the user."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from files_kit import bliss, cut, pyxrf, spectra
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.files import ReadChoice, read_map
from quietbeam.files.choice import parse_choice
from quietbeam.files.readers.points import by_positions, checked, find_axes, in_order

ROWS, COLS = 6, 7
MESH = f"amesh samx 0 {COLS - 1} {COLS - 1} samy 0 {ROWS - 1} {ROWS - 1} 0.1"

Scan = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    """Levels of (y, x), and in the order of measuring the (row, col) of each point: any direction, axis, snake."""
    rows, cols = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    y, x = (np.cumsum(draw(st.lists(st.integers(2, 8), min_size=n, max_size=n))).astype(float) for n in (rows, cols))
    y = y[::-1] if draw(st.booleans()) else y
    x = x[::-1] if draw(st.booleans()) else x
    order = np.arange(rows * cols).reshape(rows, cols)
    if draw(st.booleans()):
        order[1::2] = order[1::2, ::-1]
    return y, x, *np.divmod(order.ravel()[: draw(st.integers(2 * cols, rows * cols))], cols)


@settings(max_examples=200, deadline=None)
@example((np.array([8.0, 4, 2]), np.array([2.0, 6]), np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0])), 0, 0.0)
@given(scans(), st.integers(0, 99), st.floats(0, 0.05))
def test_points_are_where_their_positions_are(scan: Scan, seed: int, jitter: float) -> None:
    y, x, row, col = scan
    rng = np.random.default_rng(seed)
    slow, fast = y[row] + rng.uniform(-jitter, jitter, len(row)), x[col] + rng.uniform(-jitter, jitter, len(col))
    placed = by_positions(slow, fast)
    found_row, found_col = np.divmod(placed.pixels, placed.shape[1])
    # pixels of a row (column) have one position, and rows (columns) are sorted in the direction of the scan
    for found, true in ((found_row, row), (found_col, col)):
        assert len({(a, b) for a, b in zip(found, true, strict=True)}) == len(set(true.tolist())) == len(set(found))
    assert placed.axes is not None and placed.axes.positions is not None
    assert np.array_equal(placed.axes.positions[0].ravel()[placed.pixels], slow)


@settings(max_examples=100, deadline=None)
@given(scans())
def test_an_announced_order_is_verified_or_replaced(scan: Scan) -> None:
    y, x, row, col = scan
    for snake in (False, True):
        announced = in_order(len(row), (len(y), len(x)), snake=snake)
        placed = checked(announced, y[row], x[col])
        expected = row * len(x) + col
        assert np.array_equal(placed.pixels, expected) or placed.shape != (len(y), len(x)) or placed.order != "verified"
        if placed.order == "verified":
            assert np.array_equal(placed.pixels, expected)


def walk(snake: bool = False, fall: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, x, place in the map) of every point in the order of measuring."""
    place = np.arange(ROWS * COLS).reshape(ROWS, COLS)
    if snake:
        place[1::2] = place[1::2, ::-1]
    y, x = np.divmod(place.ravel().astype(float), COLS)
    return (-y if fall else y), (-x if fall else x), place.ravel()


@pytest.mark.supports("geometry", "files: BLISS scans in the order that the motors say")
@pytest.mark.parametrize("fall", [False, True])
@pytest.mark.parametrize("snake", [False, True])
@pytest.mark.parametrize("title", [MESH, "fluoXAS l2scan", "fscan2d samy 0 1 6 samx 0 1 7 0.1"])
def test_bliss_by_its_motors(tmp_path: Path, title: str, snake: bool, fall: bool) -> None:
    data = spectra(ROWS, COLS)
    y, x, place = walk(snake, fall)
    flat, rng = data.reshape(ROWS * COLS, 2, -1)[place], np.random.default_rng(1)
    counters = {
        "samy": y + rng.normal(0, 1e-3, y.size),
        "samx": x + rng.normal(0, 1e-3, x.size),
        "epoch": 1.7e9 + 0.1 * np.arange(y.size),
        "diode": rng.normal(5, 0.1, y.size),
        "I0": 100.0 + place,
    }
    file = read_map(bliss(tmp_path / "a.h5", {3: (title, flat, counters)}), ["Fe_Ka"])
    assert np.array_equal(file.counts[:, 0], cut(data))
    assert file.i0 is not None and np.array_equal(file.i0, 100.0 + np.arange(ROWS * COLS).reshape(ROWS, COLS))
    assert file.order == ("from_positions" if snake or title.startswith("fluo") else "verified")
    assert file.step == pytest.approx((-1, -1) if fall else (1, 1), abs=0.01) and file.origin is not None
    assert file.axes is not None and file.axes.names == ("samy", "samx")


def test_bliss_goes_on_to_the_first_map(tmp_path: Path) -> None:
    data = spectra(ROWS, COLS)
    flat = data.reshape(ROWS * COLS, 2, -1)
    scans_ = {
        1: ("ct 1", flat[:1], {}),
        2: ("loopscan 9 0.1", flat[:9], {}),
        3: ("ascan samx 0 1 6 0.1", flat[:7], {"samx": np.arange(7.0)}),
        4: (MESH, flat, {}),
        5: ("amesh samx 0 2 2 samy 0 1 1 0.1", flat[:6], {}),
    }
    path = bliss(tmp_path / "a.h5", scans_)
    file = read_map(path, ["Fe_Ka"])
    assert (
        file.counts.shape[-2:] == (6, 7)
        and "scan 4.1 (amesh" in file.remark
        and "other maps in the file: 5.1" in file.remark
    )
    assert read_map(path, ["Fe_Ka"], scan="5").counts.shape[-2:] == (2, 3)
    line = read_map(path, ["Fe_Ka"], scan="3.1")
    assert line.counts.shape[-2:] == (1, 7) and line.step == pytest.approx((0, 1))
    with pytest.raises(InputError, match=r"no scan 9 with spectra; there are 1\.1 \(ct 1\)"):
        read_map(path, scan="9")
    no_map = bliss(tmp_path / "b.h5", {1: scans_[1], 2: scans_[2]})
    with pytest.raises(FileFormatError, match=r"holds no map: .* 2\.1 \(loopscan 9 0\.1\)"):
        read_map(no_map)


def test_what_has_no_grid_is_refused_with_the_command_that_works(tmp_path: Path) -> None:
    data = spectra(ROWS, COLS)
    flat = data.reshape(ROWS * COLS, 2, -1)
    path = bliss(tmp_path / "a [1].h5", {7: ("mystery", flat, {"noise": np.random.default_rng(0).normal(size=42)})})
    with pytest.raises(FileFormatError, match=r"quietbeam denoise '.*a \[1\]\.h5' -o OUT\.h5 --scan 7\.1 --shape 6x8"):
        read_map(path, ["Fe_Ka"])
    file = read_map(path, ["Fe_Ka"], choice=ReadChoice(shape=(6, 7)))
    assert np.array_equal(file.counts[:, 0], cut(data)) and file.order == "assumed"
    turned = read_map(path, ["Fe_Ka"], choice=ReadChoice(shape=(6, 7), snake=True))
    assert np.array_equal(turned.counts[:, 0, 1], cut(data)[:, 1, ::-1])


def test_a_spiral_is_put_on_cells_and_says_so(tmp_path: Path) -> None:
    angle = 2.4 * np.arange(300)
    y, x = np.sqrt(np.arange(300)) * np.sin(angle), np.sqrt(np.arange(300)) * np.cos(angle)
    flat = spectra(15, 20).reshape(300, 2, -1)
    with h5py.File(bliss(tmp_path / "a.h5", {1: ("spiralscan", flat, {"sy": y, "sx": x})}), "a") as file:
        file["1.1/instrument/positioners/sy"], file["1.1/instrument/positioners/sx"] = y, x
    found = read_map(tmp_path / "a.h5", ["Fe_Ka"])
    assert "lie on no grid" in found.remark and found.order == "from_positions"
    assert found.counts.sum() == cut(spectra(15, 20)).sum()


def test_pyxrf_rows_that_lie_backwards(tmp_path: Path) -> None:
    data = spectra(ROWS, COLS)
    y, x, place = walk(snake=True)
    stored = data.reshape(ROWS * COLS, 2, -1)[place].reshape(data.shape)
    path = pyxrf(tmp_path / "a.h5", stored, {"i0": 1.0 + place.reshape(ROWS, COLS)})
    with h5py.File(path, "a") as file:
        file["xrfmap/positions/name"] = np.array([b"x_pos", b"y_pos"])
        file["xrfmap/positions/pos"] = np.stack([x, y]).reshape(2, ROWS, COLS)
    file = read_map(path, ["Fe_Ka"])
    assert np.array_equal(file.counts[:, 0], cut(data)) and file.order == "from_positions"
    assert file.i0 is not None and np.array_equal(file.i0.ravel(), 1.0 + np.arange(ROWS * COLS))
    assert file.step == pytest.approx((1, 1)) and file.axes is not None and file.axes.names == ("y", "x")


def test_time_is_no_axis() -> None:
    y, x, _ = walk()
    time = 0.1 * np.arange(y.size)
    assert find_axes({"time": time, "samx": x, "samy": y}) == ("samy", "samx")
    assert find_axes({"time": time, "noise": np.random.default_rng(0).normal(size=y.size)}) is None


def test_options_that_cannot_be_understood() -> None:
    choice = parse_choice(scan="3", axes="row, col,detector,channel", shape="6x8", energy="-20,10eV", snake=True)
    assert choice.axes == ("row", "col", "detector", "channel") and choice.shape == (6, 8)
    assert choice.energy == pytest.approx((-0.02, 0.01))
    wrong = {"shape": "6", "axes": "x,y", "energy": "10"}
    for (name, value), words in zip(wrong.items(), ("--shape 6x8", "row,col,channel", "0,0.01"), strict=True):
        with pytest.raises(InputError, match=words):
            parse_choice(**{name: value})


def test_options_that_a_file_has_no_use_for_are_refused(tmp_path: Path) -> None:
    path = pyxrf(tmp_path / "a.h5", spectra(), {})
    with pytest.raises(InputError, match=r"a PyXRF file: --scan has no use here \(of use: --i0 --energy --snake\)"):
        read_map(path, scan="2")


def test_two_names_of_one_detector_are_one(tmp_path: Path) -> None:
    flat = spectra(ROWS, COLS).reshape(ROWS * COLS, 2, -1)
    with h5py.File(bliss(tmp_path / "a.h5", {1: (MESH, flat, {})}), "a") as file:
        file["1.1/measurement/fluo_det0"] = h5py.SoftLink("/1.1/measurement/mca0")
    assert len(read_map(tmp_path / "a.h5", ["Fe_Ka"]).detectors) == 2


def test_more_points_than_announced_are_said(tmp_path: Path) -> None:
    flat = spectra(ROWS, COLS).reshape(ROWS * COLS, 2, -1)
    path = bliss(tmp_path / "a.h5", {1: ("amesh samx 0 6 6 samy 0 4 4 0.1", flat, {})})
    file = read_map(path, ["Fe_Ka"])
    assert (
        file.counts.shape[-2:] == (5, 7) and "7 points beyond the 5 x 7 pixels of the map are left out" in file.remark
    )
