"""The dashboard in a real Chromium without WebGL, while a real scan runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from quietbeam.serve.render.colormaps import NOT_MEASURED_RGB
from quietbeam_models.weights import DEFAULT, available

from .conftest import LINES, Installation, wait_until

pytestmark = [pytest.mark.system, pytest.mark.browser]

ROWS, COLS = 24, 24
SIZES = ((1366, 768), (1600, 1000))
SCREENSHOTS = os.environ.get("QUIETBEAM_SCREENSHOTS")
"""Folder for pictures; read here because a test sees no such variable."""

SEEN = """([line, kind, grey, rows]) => {
  const canvas = document.querySelector(`.card[data-line="${line}"] .map[data-kind="${kind}"] canvas`);
  if (!canvas) return null;
  const {width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const colours = new Set();
  const unmeasured = [];
  for (let row = 0; row < rows; row++) {
    const y = Math.floor((row + 0.5) * height / rows);
    let n = 0;
    for (let x = width >> 1; x < width; x++) {
      const i = 4 * (y * width + x);
      if (grey.every((value, c) => data[i + c] === value)) n++;
      else colours.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
    }
    unmeasured.push(n / (width - (width >> 1)));
  }
  return {colours: colours.size, unmeasured};
}"""
"""Distinct colours of a canvas, and the grey fraction of each row of the map; right half: the left has a scale bar."""


def seen(page: Page, line: str, kind: str) -> dict[str, Any]:
    """Return what is drawn of one map."""
    return page.evaluate(SEEN, [line, kind, NOT_MEASURED_RGB, ROWS])


def rows(page: Page) -> tuple[int, int]:
    """Return the rows measured and denoised in the frame that is drawn, once it is."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    counts = page.evaluate(
        "quietbeam.run && quietbeam.drawn && [quietbeam.run.progress.rows_measured, quietbeam.run.denoise.rows]"
    )
    return tuple(counts) if counts else (0, 0)


def take_pictures(page: Page, moment: str) -> None:
    """Keep screenshots when a folder for them is named."""
    if SCREENSHOTS:
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            page.screenshot(path=Path(SCREENSHOTS) / f"dashboard-{moment}-{width}x{height}.png")


def test_a_live_scan_on_the_page(installation: Installation, page: Page, tmp_path: Path) -> None:
    known = set(installation.uids())
    url = f"http://127.0.0.1:{installation.settings.serve.port}/?api_key={installation.settings.serve_api_key()}"
    page.set_viewport_size({"width": 1600, "height": 1000})
    page.goto(url)
    wait_until(lambda: page.evaluate("window.quietbeam?.connection === 'live'"), 30, "the live connection")
    assert page.evaluate("document.createElement('canvas').getContext('webgl')") is None, "WebGL must be off here"

    options = ("--shape", f"{ROWS}x{COLS}", "--mode", "snake", "--dwell", "0.035", "--seed", "4", "--counts", "40")
    scan = installation.scan(tmp_path / "truth.npz", *options)
    uid = installation.new_run(known)
    wait_until(lambda: page.evaluate("quietbeam.run?.uid") == uid, 30, "the page to follow the new run")
    wait_until(lambda: rows(page)[1] >= ROWS // 2, 60, "half of the map, denoised, on the page")
    before, _ = rows(page)
    assert scan.poll() is None, "the page showed the maps only after the scan"
    assert page.locator("#run-state").text_content() == "measuring"
    for line in LINES:
        for kind in ("raw", "denoised"):
            drawn = seen(page, line, kind)
            assert drawn["colours"] > 8, (line, kind, drawn)
            assert max(drawn["unmeasured"][: ROWS // 2]) == 0, (line, kind, drawn)
            assert drawn["unmeasured"][-4] == 1, (line, kind, drawn)  # below it are the numbers of the axis
    take_pictures(page, "live")
    wait_until(lambda: rows(page)[0] > before, 60, "progress on the page")

    installation.finished(scan)
    installation.final(uid)
    wait_until(lambda: page.locator("#run-state").text_content() == "complete", 30, "the end of the run on the page")
    wait_until(lambda: "final" in (page.locator("#denoiser").text_content() or ""), 30, "the final maps on the page")
    assert rows(page) == (ROWS, ROWS)
    for line in LINES:
        for kind in ("raw", "denoised"):
            drawn = seen(page, line, kind)
            assert drawn["colours"] > 8, (line, kind, drawn)
            assert max(drawn["unmeasured"]) == 0, (line, kind, drawn)
        verdict = page.locator(f'.card[data-line="{line}"] .verdict').text_content() or ""
        assert "dwell gain" in verdict or "kept raw" in verdict or "not tested" in verdict, verdict
    take_pictures(page, "final")
    earlier_states_and_detectors(installation, page, uid)
    denoised_again_and_deleted(installation, page, uid)


def earlier_states_and_detectors(installation: Installation, page: Page, uid: str) -> None:
    """The panels show what the worker kept of this run."""
    api = f"http://127.0.0.1:{installation.settings.serve.port}/api/v1/runs/{uid}"
    newest = page.request.get(api).json()["data"]["attributes"]["maps_version"]
    states = [state["attributes"] for state in page.request.get(f"{api}/history").json()["data"]]
    kept = [state for state in states if state["maps"] and state["version"] < newest]
    page.keyboard.press("h")
    facts = page.locator("#state-facts")
    shown = f"now: state {len(kept) + 1} of {len(kept) + 1}, {ROWS} rows"
    wait_until(lambda: shown in (facts.text_content() or ""), 30, shown)
    if kept:  # a slow machine may have had time for the last evaluation alone
        page.keyboard.press(",")
        wait_until(lambda: f"the maps after {kept[-1]['rows']} rows" in page.locator("#earlier").inner_text(), 30, "it")
        page.get_by_role("button", name="Back to now").click()
    page.keyboard.press("d")
    rows_of = page.locator("#detectors-table tbody tr")
    wait_until(lambda: rows_of.count() == 4, 30, "the four detectors")
    shares = [float((row.locator("td").first.text_content() or "0 %").split()[0]) for row in rows_of.all()]
    assert abs(sum(shares) - 100) < 0.5


def denoised_again_and_deleted(installation: Installation, page: Page, uid: str) -> None:
    """What the panel asks for is done by the stages."""
    page.keyboard.press("m")
    page.locator("#manage-weights").select_option(available()[0])
    page.locator("#manage-budget").fill("1")
    page.locator("#manage-denoise").click()
    said = page.locator("#manage-actions")
    wait_until(lambda: "denoise again: done" in (said.text_content() or ""), 120, "the run denoised again")
    label = page.locator('.card[data-line="Ca_Ka"] [data-kind="denoised"] figcaption')
    wait_until(lambda: page.evaluate("quietbeam.run.denoise.model") == available()[0], 30, "the other weights")
    assert DEFAULT not in (label.text_content() or "")
    wait_until(lambda: page.locator("#manage-delete").is_enabled(), 60, "the run at rest")
    page.locator("#manage-delete").click()
    page.locator("#delete-yes").click()
    wait_until(lambda: uid not in installation.uids(), 60, "the run gone")
    expect(page.locator("#run-button")).not_to_have_attribute("title", re.compile(uid), timeout=30_000)  # it may reload
