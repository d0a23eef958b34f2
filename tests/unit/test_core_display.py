"""How a map lies on the screen: two scans of one area look the same, whichever way they ran."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietbeam.core.model.display import Orientation, orientation_of, positions_of
from quietbeam.core.model.types import RunInfo

INFO = RunInfo(uid="a", lines=("Fe_Ka",), detectors=("d1",), shape=(3, 5), axes=("my", "mx"), vertical="up")
X, Y = np.arange(5.0), np.arange(3.0)


def scanned(info: RunInfo, *, first_x: bool, x_falls: bool, y_falls: bool, uneven: bool) -> tuple[RunInfo, np.ndarray]:
    """Return the info of a scan of the same area, and its map in scan order: 10 y + x."""
    x, y = X[::-1] if x_falls else X, Y[::-1] if y_falls else Y
    rows, cols = (x, y) if first_x else (y, x)
    image = 10 * (cols[None] if first_x else rows[:, None]) + (rows[:, None] if first_x else cols[None])
    info = replace(info, axes=("mx", "my") if first_x else ("my", "mx"), shape=image.shape)
    if uneven:
        return replace(info, row_positions=tuple(rows), col_positions=tuple(cols)), image
    step = float(rows[1] - rows[0]), float(cols[1] - cols[0])
    return replace(info, origin=(float(rows[0]), float(cols[0])), step=step), image


FLAG = st.booleans()


@given(first_x=FLAG, x_falls=FLAG, y_falls=FLAG, uneven=FLAG, up=FLAG)
def test_two_scans_of_one_area_look_the_same(
    first_x: bool, x_falls: bool, y_falls: bool, uneven: bool, up: bool
) -> None:
    wanted = replace(INFO, horizontal="mx", vertical="up" if up else "down")
    info, image = scanned(wanted, first_x=first_x, x_falls=x_falls, y_falls=y_falls, uneven=uneven)
    picture = orientation_of(info).apply(np.stack([image, image]))[1]
    np.testing.assert_array_equal(picture, 10 * (Y[::-1] if up else Y)[:, None] + X[None])
    for (row, col), value in np.ndenumerate(image):
        position = dict(zip(info.axes, positions_of(info, row, col), strict=True))
        assert 10 * position["my"] + position["mx"] == value


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Orientation()),
        ({"step": (1.0, 1.0), "origin": (0.0, 0.0)}, Orientation()),
        ({"step": (-1.0, 1.0)}, Orientation(flip_rows=True)),
        ({"vertical": "up"}, Orientation(flip_rows=True)),
        ({"vertical": "up", "step": (-1.0, -1.0)}, Orientation(flip_cols=True)),
        ({"horizontal": "slow"}, Orientation(transpose=True)),
        ({"horizontal": "my", "vertical": "up"}, Orientation(transpose=True, flip_cols=True)),
        ({"horizontal": "a motor of other runs"}, Orientation()),
        ({"row_positions": (1.0, 5.0, 2.0)}, Orientation()),
        ({"col_positions": (9.0, 5.0, 2.0, 1.0, 0.0)}, Orientation(flip_cols=True)),
    ],
)
def test_what_the_profile_says(changes: dict, wanted: Orientation) -> None:
    assert orientation_of(replace(INFO, **{"vertical": "down", **changes})) == wanted


def test_positions_that_are_not_known() -> None:
    assert positions_of(INFO, 1, 2) == (None, None)
    assert positions_of(replace(INFO, row_positions=(1.0, 5.0, 2.0)), 1, 2) == (5.0, None)


def test_the_info_of_a_run_keeps_it() -> None:
    info = replace(INFO, horizontal="slow")
    assert RunInfo.from_dict(info.to_dict()) == info
