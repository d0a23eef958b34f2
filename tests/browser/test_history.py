"""Curves over the scan, earlier states of the maps, and the detectors one by one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection

from .conftest import LINES, Canvas, Dashboard, drawn, open_page, pixels, until, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser


@pytest.fixture
def grown(run: SyntheticRun) -> SyntheticRun:
    """The run after 10, 20, 30 and 40 rows."""
    for _ in range(3):
        run.add_rows(10)
        run.denoise()
    return run


def test_the_slider_goes_back_through_the_scan(page: Page, dashboard: Dashboard, grown: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 40)
    page.keyboard.press("h")
    facts = page.locator("#state-facts")
    expect(facts).to_contain_text("now: state 4 of 4, 40 rows")
    now = pixels(page, "Fe_Ka", "denoised")
    assert sum(now["grey"]) == 0
    page.get_by_role("button", name="Earlier state").click()
    page.get_by_role("button", name="Earlier state").click()
    expect(facts).to_contain_text("earlier: state 2 of 4, 20 rows")
    expect(page.locator("#earlier")).to_contain_text("the maps after 20 rows, not the newest")
    caption = page.locator('.card[data-line="Fe_Ka"] [data-kind="denoised"] figcaption')
    expect(caption).to_have_text(re.compile("denoised, .*quietbeam-1, 20 rows"))
    drawn(page)
    for kind in ("raw", "denoised"):
        seen = pixels(page, "Fe_Ka", kind)
        half = seen["height"] // 2
        assert max(seen["grey"][: half - 2]) == 0, kind
        assert min(seen["grey"][half + 2 : -40]) == 1, "rows that came later are not shown"
    earlier = grown.evidence(final=False, improved=True)
    assert earlier.lines[1].dwell_gain
    gain = 1 + 5.3 * 20 / 40
    expect(page.locator('.card[data-line="Fe_Ka"] .verdict')).to_contain_text(f"×{gain:.1f}")

    Canvas(page).locator.hover()
    page.mouse.move(*Canvas(page).at(15, 20))
    expect(page.locator('.card[data-line="Fe_Ka"] .values')).to_contain_text("±")
    page.locator("#state").press("ArrowLeft")
    expect(facts).to_contain_text("state 1 of 4, 10 rows")
    page.mouse.move(*Canvas(page).at(16, 20))
    expect(page.locator('.card[data-line="Fe_Ka"] .values')).to_have_text("not measured yet")

    grown.denoise()  # the run goes on: the page stays where it is
    expect(facts).to_contain_text("state 1 of 5")
    expect(caption).to_have_text(re.compile("10 rows"))
    page.get_by_role("button", name="Back to now").click()
    expect(facts).to_contain_text("now: state 5 of 5, 40 rows")
    expect(page.locator("#earlier")).to_be_hidden()
    page.mouse.move(5, 400)
    drawn(page)
    assert sum(pixels(page, "Fe_Ka", "denoised")["grey"]) == 0


def test_curves_over_the_scan_lead_to_its_states(page: Page, dashboard: Dashboard, grown: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 40)
    page.keyboard.press("h")
    gain, loss = page.locator("#history-charts canvas").all()
    expect(gain).to_have_attribute("aria-label", re.compile(r"Dwell gain: \d+ values from 1 to 7\.6"))
    expect(loss).to_have_attribute("aria-label", re.compile(r"Loss of the fine-tuning: \d+ values from 1\.02 to 1\.09"))
    box = gain.bounding_box()
    assert box
    page.mouse.click(box["x"] + 50, box["y"] + 60)
    expect(page.locator("#state-facts")).to_contain_text("earlier: state 1 of 4, 10 rows")
    box = loss.bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 40)
    expect(page.locator("#state-facts")).to_contain_text("earlier: state 3 of 4, 30 rows")
    page.keyboard.press("Escape")
    expect(page.locator("#earlier")).to_be_visible()
    page.keyboard.press(",")
    expect(page.locator("#state-facts")).to_contain_text("earlier: state 2 of 4")


def test_an_earlier_state_ends_with_its_run(
    page: Page, dashboard: Dashboard, grown: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 40)
    page.keyboard.press("h")
    page.get_by_role("button", name="Earlier state").click()
    expect(page.locator("#earlier")).to_be_visible()
    second = SyntheticRun(settings.runs_dir, redis, uid="run-2", shape=(20, 20), lines=LINES[:2], scan_id=1043)
    second.add_rows(5)
    second.denoise()
    expect(page.locator("#run-name")).to_have_text("Scan 1043")
    expect(page.locator("#earlier")).to_be_hidden()
    expect(page.locator("#state-facts")).to_contain_text("now: state 1 of 1, 5 rows")
    until(page, "document.querySelectorAll('.card').length === 2", "the new run's lines")


CENTRES = """() => {
  const canvas = document.getElementById("detectors-map");
  const {width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const at = (x, y) => data[4 * (Math.round(y) * width + Math.round(x)) + 3] > 0;
  const inked = [];
  for (let y = 0; y < height; y += 3) for (let x = 0; x < width; x += 3) if (at(x, y)) inked.push(x / width);
  return [Math.min(...inked), Math.max(...inked), at(width / 2, height / 2)];
}"""


def test_detectors_are_drawn_where_they_sit(
    page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection
) -> None:
    row = {name: (float(n), 0.0) for n, name in enumerate(run.info.detectors)}
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("d")
    expect(page.locator("#detectors-table tbody tr")).to_have_count(4)
    left, right, middle = page.evaluate(CENTRES)
    assert right - left < 0.7
    assert not middle, "without places they stand in a ring"
    runs.write_status(redis, run.uid, info=replace(run.info, detector_positions=row))
    run.denoise()
    until(page, f"({CENTRES})()[1] - ({CENTRES})()[0] > 0.9", "the detectors in a row")


def test_each_detector_with_its_health(page: Page, dashboard: Dashboard, settings: Settings, redis: Connection) -> None:
    run = SyntheticRun(settings.runs_dir, redis, shape=(20, 20))
    run.add_rows(20)
    run.denoise()
    open_page(page, dashboard)
    wait_for_rows(page, 20)
    page.keyboard.press("d")
    rows = page.locator("#detectors-table tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text("used")
    expect(rows.nth(1)).to_contain_text(f"{100 * 700 / 3700:.1f} %")
    expect(rows.nth(1)).to_contain_text("0.67")  # 0.15 of a mean of 0.225
    expect(rows.nth(2)).to_contain_text("▲ Fe K: no counts in this line")
    expect(rows.nth(3)).to_contain_text("3.0 %")
    layout = page.locator("#detectors-map")
    expect(layout).to_have_attribute(
        "aria-label", re.compile("Layout of 4 detectors. det1 used, gain .*det3 left out: Fe K")
    )
    before = layout.screenshot()
    page.locator("#detectors-line").select_option("Fe_K")
    expect(page.locator("#detectors-facts")).to_contain_text("▲ det3 left out")
    expect(rows.nth(2)).to_contain_text("▲ no counts in this line")
    assert layout.screenshot() != before, "the detector is crossed out"
    page.locator("#detectors-line").select_option("P_K")
    expect(page.locator("#detectors-facts")).to_have_text("all 4 detectors are used for P K")
