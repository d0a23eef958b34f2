"""Two scans of one area in different directions look the same on the page, in a real Chromium."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from quietbeam.core.model.types import RowBlock, RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection

from .conftest import KEY, Dashboard, drawn, until
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser

SHAPE = (6, 9)
"""(y, x) of the area."""


def scan(
    settings: Settings, redis: Connection, uid: str, area: np.ndarray, *, x_is_slow: bool, backwards: bool
) -> SyntheticRun:
    """Make a run that measured an area (y, x) at y = 0, 0.5, 1 ... and x = 0, 0.25, 0.5 ... in some direction."""
    step, sign = {"my": 0.5, "mx": 0.25}, -1 if backwards else 1
    size = dict(zip(("my", "mx"), SHAPE, strict=True))
    axes = ("mx", "my") if x_is_slow else ("my", "mx")
    counts = (area.T if x_is_slow else area)[::sign, ::sign]
    run = SyntheticRun(settings.runs_dir, redis, uid=uid, shape=counts.shape, lines=("Fe_Ka",), detectors=1)
    info = replace(
        run.info,
        axes=axes,
        step=tuple(sign * step[name] for name in axes),
        origin=tuple((size[name] - 1) * step[name] if backwards else 0.0 for name in axes),
        horizontal="mx",
        vertical="up",
    )
    run.buffer.update_info(info)
    for row, values in enumerate(counts):
        block = RowBlock(counts=values[None, None].astype(np.uint32), measured=np.ones(len(values), bool))
        run.buffer.write_row(row, block)
    whole = {"rows_measured": counts.shape[0], "pixels_measured": counts.size}
    runs.write_status(redis, uid, info=info, state=RunState.COMPLETE, **whole)
    return run


def picture(page: Page) -> str:
    """Return the drawn raw map with its axes and scale bar."""
    return page.locator('.map[data-kind="raw"] canvas').evaluate("canvas => canvas.toDataURL()")


def test_two_scans_of_one_area_look_the_same(
    page: Page, dashboard: Dashboard, settings: Settings, redis: Connection
) -> None:
    area = np.arange(np.prod(SHAPE)).reshape(SHAPE) * 7 + 50
    scan(settings, redis, "forwards", area, x_is_slow=False, backwards=False)
    scan(settings, redis, "backwards", area, x_is_slow=True, backwards=True)
    seen, read = [], []
    for uid, (row, col) in (("forwards", (4, 2)), ("backwards", (6, 1))):  # the same place: y = 2.0, x = 0.5
        page.goto(f"{dashboard.url}?run={uid}&api_key={KEY}")
        until(page, f"window.quietbeam?.run?.uid === '{uid}' && quietbeam.drawn > 0", "the map")
        drawn(page)
        seen.append(picture(page))
        canvas = page.locator('.map[data-kind="raw"] canvas')
        box = canvas.bounding_box()
        assert box
        # the second pixel from above, as y rises upwards, and the third from the left
        page.mouse.move(box["x"] + box["width"] * 2.5 / SHAPE[1], box["y"] + box["height"] * 1.5 / SHAPE[0])
        expect(page.locator("#readout")).to_contain_text(f"row {row}, col {col}")
        expect(page.locator("#readout")).to_contain_text("my 2.00 µm")
        expect(page.locator("#readout")).to_contain_text("mx 0.50 µm")
        read.append(page.locator(".values").inner_text())
        page.mouse.move(0, 0)
    assert seen[0] == seen[1]
    assert read[0] == read[1] and f"raw {area[4, 2]}" in read[0]
    page.keyboard.press("g")
    drawn(page)
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 1.5 / SHAPE[1], box["y"] + 4, steps=3)
    page.mouse.up()
    expect(page.locator("#region-facts")).to_contain_text("rows 7–8, columns 0–0: 2 pixels measured")
