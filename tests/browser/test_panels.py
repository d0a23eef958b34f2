"""Profile, region, composite and evidence as a person uses them, against the numbers of the run."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.serve.render.colormaps import NOT_MEASURED_RGB

from .conftest import LINES, Canvas, Dashboard, drawn, open_page, until, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser


def panel(page: Page, name: str) -> None:
    page.locator("#rail").get_by_role("button", name=name).click()
    expect(page.locator("#side")).to_be_visible()
    drawn(page)  # the maps make room


def saved(page: Page, button: str, to: Path) -> Path:
    with page.expect_download() as download:
        page.locator(button).click()
    download.value.save_as(to)
    return to


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_line_drawn_on_one_map_gives_the_profile_of_every_line(
    page: Page, dashboard: Dashboard, run: SyntheticRun, tmp_path: Path
) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    panel(page, "Profile")
    expect(page.locator("#profile-csv")).to_be_disabled()
    Canvas(page).drag((4, 6), (4, 30))
    assert page.evaluate("quietbeam.view.whole"), "drawing does not move the map"
    expect(page.locator("#profile-facts")).to_contain_text(
        "from row 4, col 6 to row 4, col 30: 6 µm, mean over 1 pixel"
    )
    expect(page.locator("#profile-charts canvas")).to_have_count(len(LINES))
    rows = table(saved(page, "#profile-csv", tmp_path / "one.csv"))
    raw, denoised, error = (run.buffer.read_map(kind) for kind in ("raw", "denoised", "uncertainty"))
    assert len(rows) == 25 * len(LINES)
    for row in rows:
        at = LINES.index(row["line"]), int(row["row"]), int(row["col"])
        assert at[1] == 4
        assert float(row["distance_um"]) == pytest.approx((at[2] - 6) * 0.25)
        values = raw[at], np.sqrt(max(raw[at], 1)), denoised[at], error[at]
        keys = ("raw", "raw_error", "denoised", "denoised_error")
        assert [float(row[key]) for key in keys] == pytest.approx(values, rel=1e-5)

    page.get_by_label("Width").select_option("3")
    Canvas(page).drag((4, 30), (8, 30))  # its end is taken hold of
    expect(page.locator("#profile-facts")).to_contain_text("from row 4, col 6 to row 8, col 30")
    Canvas(page).drag((4, 6), (8, 6))
    rows = table(saved(page, "#profile-csv", tmp_path / "three.csv"))
    iron = next(row for row in rows if row["line"] == "Fe_Ka" and row["col"] == "20")
    across = raw[1, 7:10, 20]
    assert float(iron["raw"]) == pytest.approx(across.mean(), rel=1e-5)
    assert float(iron["raw_error"]) == pytest.approx(np.sqrt(across.sum()) / 3, rel=1e-5)

    Canvas(page).drag((8, 6), (5, 11))
    Canvas(page).drag((8, 30), (2, 33))
    expect(page.locator("#profile-facts")).to_contain_text("col 11")
    slanted = table(saved(page, "#profile-csv", tmp_path / "slanted.csv"))
    ends = [f"{slanted[i]['row']},{slanted[i]['col']}" for i in (0, -1)]
    question = f"profile?from={ends[0]}&to={ends[1]}&width=3"
    asked = page.request.get(f"{dashboard.url}api/v1/runs/run-1/{question}").json()["data"]
    for line in LINES:
        here = [float(row["denoised"]) for row in slanted if row["line"] == line]
        assert here == pytest.approx(asked["lines"][line]["denoised"], rel=1e-4), "the API says the same"
    Canvas(page).drag((5, 11), (8, 6))
    Canvas(page).drag((2, 33), (8, 30))

    chart = page.locator("#profile-charts canvas").nth(1)
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    expect(page.locator("#readout")).to_have_text(re.compile("row 8, col 1[6-9] "))
    page.locator("#profile-clear").click()
    expect(page.locator("#profile-charts")).to_be_hidden()


def test_a_box_drawn_on_one_map_gives_the_means_of_every_line(
    page: Page, dashboard: Dashboard, run: SyntheticRun, tmp_path: Path
) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    panel(page, "Region")
    Canvas(page, kind="raw").drag((2, 8), (7, 17))
    expect(page.locator("#region-facts")).to_contain_text("rows 2–7, columns 8–17: 60 pixels measured, 2.5 × 1.5 µm")
    raw, denoised, error = (run.buffer.read_map(kind)[:, 2:8, 8:18] for kind in ("raw", "denoised", "uncertainty"))
    rows = table(saved(page, "#region-csv", tmp_path / "region.csv"))
    assert [row["line"] for row in rows] == list(LINES)
    for i, row in enumerate(rows):
        expected = 60, raw[i].mean(), np.sqrt(raw[i].sum()) / 60, denoised[i].mean(), error[i].mean(), raw[i].sum()
        assert [float(value) for value in list(row.values())[1:7]] == pytest.approx(expected, rel=1e-4)
        assert row["unit"] == "counts"
    asked = page.request.get(f"{dashboard.url}api/v1/runs/run-1/roi?rows=2:8&cols=8:18").json()["data"]["lines"]
    for row in rows:
        means = asked[row["line"]]
        same = means["n"], means["raw"], means["raw_error"], means["denoised"], means["denoised_error"]
        assert [float(value) for value in list(row.values())[1:6]] == pytest.approx(same, rel=1e-4), (
            "the API says the same"
        )
    first = page.locator("#region-table tbody tr").first
    expect(first).to_contain_text(re.compile(rf"{raw[0].mean():.1f}\d* ± "))
    expect(first).to_contain_text("σ")

    Canvas(page).drag((5, 12), (25, 20))  # its middle is taken hold of
    expect(page.locator("#region-facts")).to_contain_text("rows 22–27, columns 16–25: 0 of 60 pixels measured")
    expect(first).to_contain_text("not measured")
    page.keyboard.down("Shift")
    page.keyboard.press("ArrowDown")
    page.keyboard.up("Shift")
    page.reload()
    until(page, "window.quietbeam?.drawn > 0", "the page again")
    expect(page.locator("#side-title")).to_have_text("Region")


COMPOSITE = """not => {
  const canvas = document.querySelector("#rgb-map canvas");
  const left = canvas.width >> 2;  // left and below are the axes and the scale bar
  const data = canvas.getContext("2d").getImageData(left, 0, canvas.width - left, canvas.height - 40).data;
  const seen = {red: 0, green: 0, blue: 0, grey: 0, colours: new Set()};
  for (let i = 0; i < data.length; i += 4) {
    if (not.every((value, k) => data[i + k] === value)) { seen.grey++; continue; }
    ["red", "green", "blue"].forEach((name, k) => seen[name] = Math.max(seen[name], data[i + k]));
    seen.colours.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
  }
  return {...seen, grey: 4 * seen.grey / data.length, colours: seen.colours.size};
}"""


def test_three_lines_make_one_map(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.mouse.move(5, 400)
    panel(page, "RGB")

    def seen() -> dict[str, Any]:
        drawn(page)
        return page.evaluate(COMPOSITE, list(NOT_MEASURED_RGB))

    all_three = seen()
    assert min(all_three[name] for name in ("red", "green", "blue")) == 255
    assert all_three["colours"] > 60
    assert 0.7 < all_three["grey"] < 0.78, "30 of 40 rows are not measured"
    expect(page.locator("#rgb-map figcaption")).to_have_text("denoised, model quietbeam-1, 10 rows")
    page.locator("#rgb-1").select_option("")
    page.locator("#rgb-2").select_option("")
    page.locator("#rgb-0").select_option("Fe_Ka")
    only_red = seen()
    assert (only_red["red"], only_red["green"], only_red["blue"]) == (255, 0, 0)
    expect(page.locator("#rgb-map canvas")).to_have_attribute("aria-label", re.compile("red Fe Kα; Fe Kα up to "))
    page.get_by_role("button", name="CMY").click()
    cyan = seen()
    assert (cyan["green"], cyan["blue"]) == (255, 255)
    page.locator("#rgb-kinds").get_by_role("button", name="Raw").click()
    expect(page.locator("#rgb-map figcaption")).to_have_text("raw")
    box = page.locator("#rgb-map canvas").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    page.mouse.wheel(0, -400)
    until(page, "!quietbeam.view.whole", "the zoom of all maps from the composite")
    assert seen()["grey"] < 0.7


def test_the_evidence_of_every_line_in_a_table(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("e")
    words = page.locator("#evidence-table")
    expect(words.locator(".whisker")).to_have_count(3)
    iron = run.evidence(final=False, improved=True).lines[1]
    assert iron.dwell_gain
    expect(words).to_contain_text(f"×{iron.dwell_gain:.1f}")
    expect(words).to_contain_text("+0.2 %")
    expect(words).to_contain_text("FRC\u00a04.2\u00a0px\u00a0(raw\u00a09.5)")
    expect(words).to_contain_text("67\u00a0% within 1 σ".replace(" ", "\u00a0"))
    expect(words.locator("td[title*='Resolution by Fourier ring correlation']")).to_have_count(4)
    page.get_by_text("What the words mean").click()
    expect(page.locator("#evidence-words")).to_contain_text("The network after training on this run.")
    expect(words).to_contain_text("▲ residual shows structure near row 4, col 9")
    words.get_by_role("button", name="show").click()
    expect(page.locator("#readout")).to_contain_text("row 4, col 9")
    expect(words).to_contain_text("▲ kept raw")
    expect(page.locator("#evidence-facts")).to_contain_text("So far: 10 rows, model quietbeam-1")
    run.denoise(final=True)
    expect(page.locator("#evidence-facts")).to_contain_text("Final: 10 rows")
    page.keyboard.press("Escape")
    expect(page.locator("#side")).to_be_hidden()


NAMELESS = """() => [...document.querySelectorAll("button, select, input, canvas[role=img], nav, dialog")]
  .filter((e) => e.offsetParent !== null && !(e.tagName === "BUTTON" && e.textContent.trim()))
  .filter((e) => !e.getAttribute("aria-label") && !e.labels?.length)
  .map((e) => e.outerHTML.slice(0, 120))"""


def test_everything_has_a_name_for_a_screen_reader(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    for name in ("Profile", "Region", "RGB", "Evidence", "Count", "Save"):
        panel(page, name)
        if name in ("Profile", "Region"):
            Canvas(page).drag((2, 6), (8, 20))
        assert page.evaluate(NAMELESS) == [], name


def test_the_time_still_to_count_for_the_wanted_snr(
    page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection
) -> None:
    evidence = run.evidence(final=False, improved=True)
    calcium = replace(evidence.lines[0], mean_counts=6.25, dwell_gain=10.0, dwell_gain_low=8.0)
    iron = replace(evidence.lines[1], mean_counts=200.0, dwell_gain=4.0, dwell_gain_low=3.0)
    dark = replace(evidence.lines[2], mean_counts=0.001)
    zinc = replace(evidence.lines[3], mean_counts=4.0)
    runs.write_status(redis, run.uid, evidence=replace(evidence, lines=(calcium, iron, dark, zinc)))
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("t")
    expect(page.locator("#side-title")).to_have_text("How long must I still count?")
    lines = page.locator("#count-table tbody tr")
    # 400 pixels of 20 ms are counted: 8 s
    expect(lines.nth(0)).to_have_text("Ca Kα2.5 → 7.92 min (×16)8 s – 15 s (×2.1–2.9)")
    expect(lines.nth(1)).to_have_text("Fe Kα14 → 28reachedreached")
    expect(lines.nth(2)).to_contain_text("Cu Kα–––")
    expect(lines.nth(3)).to_contain_text("too few counts yet")
    expect(lines.nth(4)).to_have_text("Zn Kα23 min (×25)–")
    expect(lines.nth(5)).to_contain_text("count on raw")
    facts = page.locator("#count-facts")
    expect(facts).to_have_text(
        "Still to count for SNR 10 in every line: 3 min (×25) raw, 3 min (×25) as the maps are shown; without Cu Kα."
    )
    page.get_by_label("Wanted SNR").fill("2")
    page.get_by_label("Wanted SNR").press("Enter")
    expect(facts).to_contain_text("SNR 2 in every line: reached raw, reached as")
