"""NXdata of other programs: positions decide the order of the points, and no detector is left out unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
from files_kit import CHANNELS, cut, spectra

from quietbeam.files import ReadChoice, read_map

ROWS, COLS = 6, 7
ROW, COL = np.divmod(np.arange(ROWS * COLS), COLS)
SNAKE = np.where(ROW % 2, COLS - 1 - COL, COL)


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return spectra()


def write(path: Path, signals: Mapping[str, np.ndarray], **positions: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in signals.items():
            group = file.create_group(f"entry/{name}")
            group.attrs["NX_class"], group.attrs["signal"], group.attrs["axes"] = "NXdata", "data", [".", "energy"]
            group["data"], group["energy"] = values, 0.01 * np.arange(values.shape[-1])
            group["energy"].attrs["units"] = np.bytes_(b"keV")
            for axis, of_points in positions.items():
                group[axis] = of_points
                group[axis].attrs["units"] = "mm"
    return path


@pytest.mark.supports("file in", "NXdata of points with positions of the motors: they decide the order")
@pytest.mark.parametrize("shape", [None, (ROWS, COLS)])
def test_points_lie_where_their_positions_are(shape: tuple[int, int] | None, data: np.ndarray, tmp_path: Path) -> None:
    flat = data[ROW, SNAKE]
    signals = {f"det{d}": flat[:, d] for d in range(2)}
    path = write(tmp_path / "a.nxs", signals, sample_y=0.5 * ROW, sample_x=2 + 0.25 * SNAKE)
    found = read_map(path, ["Fe_Ka"], choice=ReadChoice(shape=shape))
    np.testing.assert_array_equal(found.counts[:, 0], cut(data))
    assert found.step == pytest.approx((0.5, 0.25)) and found.units == "mm" and found.order != "assumed"


@pytest.mark.parametrize("announced", [False, True])
def test_a_grid_is_checked_by_positions_of_its_pixels(announced: bool, data: np.ndarray, tmp_path: Path) -> None:
    scanned = data[ROW, SNAKE].reshape(data.shape)
    x, y = (values.reshape(ROWS, COLS) for values in (0.25 * SNAKE, 0.5 * ROW))
    path = write(tmp_path / "a.nxs", {"det0": scanned[:, :, 0]}, x=x, y=y)
    found = read_map(path, ["Fe_Ka"], choice=ReadChoice(snake=announced or None))
    np.testing.assert_array_equal(found.counts[0, 0], cut(data)[0])
    assert found.order == ("verified" if announced else "from_positions")


def test_detectors_that_do_not_fit_are_named(data: np.ndarray, tmp_path: Path) -> None:
    signals = {"a": data[:, :, 0], "b": data[:-1, :, 1], "c": data[:, :, 1, : CHANNELS - 100]}
    found = read_map(write(tmp_path / "a.nxs", signals), ["Fe_Ka"])
    assert found.detectors == ("a",)
    assert "left out, for they are not 6x7x1200 as /entry/a/data: /entry/b/data 5x7x1200, /entry/c/data" in found.remark
