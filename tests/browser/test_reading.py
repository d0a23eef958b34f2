"""Crosshair by keyboard, one line alone, swipe, the wall screen, and the figure and data to save."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve.render.colormaps import NOT_MEASURED_RGB

from .conftest import KEY, LINES, Canvas, Dashboard, drawn, open_page, until, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser


def test_the_keyboard_does_what_the_pointer_does(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.get_by_label("Same range").click()  # a box that has the focus is no text field
    page.keyboard.press("4")
    expect(page.locator('[data-kind="residual"] canvas').first).to_be_visible()
    Canvas(page, kind="residual").locator.focus()
    page.keyboard.press("4")
    expect(page.locator('[data-kind="residual"] canvas')).to_have_count(0)
    expect(Canvas(page, kind="raw").locator).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#readout")).to_contain_text("row 20, col 20")
    expect(page.locator("#spoken")).to_have_text(re.compile(r"µm\. Fe Kα: not measured yet$"))
    for _ in range(2):
        page.keyboard.press("Control+ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    row, col = 1, 19
    expect(page.locator("#readout")).to_contain_text(f"row {row}, col {col}")
    raw, denoised, error = (run.buffer.read_map(kind)[1, row, col] for kind in ("raw", "denoised", "uncertainty"))
    spoken = page.locator("#spoken")
    read = re.search(r"Fe Kα: raw (\S+), denoised (\S+) ± (\S+)$", spoken.text_content() or "")
    assert read, spoken.text_content()
    assert [float(value) for value in read.groups()] == pytest.approx([raw, denoised, error], abs=0.006)
    assert "Ca" not in (spoken.text_content() or ""), "the line that has the focus is read"

    page.keyboard.press("g")
    drawn(page)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#region-facts")).to_contain_text("rows 1–11, columns 19–20: 18 of 22 pixels measured")

    for _ in range(3):
        page.keyboard.press("+")
    before = page.evaluate("quietbeam.view.left")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("quietbeam.view.left") > before
    for _ in range(4):
        page.keyboard.press("Control+ArrowLeft")
    assert page.evaluate("quietbeam.view.hover.col") == 0
    assert page.evaluate("quietbeam.view.left") == 0, "what is shown follows the crosshair"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#readout")).to_contain_text("Point at a map")


def test_one_line_alone_is_larger(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    small = Canvas(page).locator.bounding_box()
    page.get_by_role("button", name="Fe Kα").click()
    expect(page.locator(".card")).to_have_count(1)
    expect(page.get_by_role("button", name="Fe Kα")).to_be_focused()
    large = Canvas(page).locator.bounding_box()
    assert small
    assert large
    assert large["width"] > 1.5 * small["width"]
    run.add_rows(5)
    run.denoise()
    wait_for_rows(page, 15)
    expect(page.locator(".card")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".card")).to_have_count(len(LINES))


HALVES = """() => {
  const canvas = document.querySelector('.card[data-line="Fe_Ka"] [data-kind="swipe"] canvas');
  const data = (x, w) => canvas.getContext("2d").getImageData(x, 0, w, canvas.height / 4 - 12).data;
  const colours = (pixels) => {
    const seen = new Set();
    for (let i = 0; i < pixels.length; i += 4) seen.add(pixels[i] * 65536 + pixels[i + 1] * 256 + pixels[i + 2]);
    return seen.size;
  };
  const at = Math.round(canvas.width * quietbeam.view.divider);
  const right = canvas.width - at - 12;
  const left = 50;  // before it are the numbers of the axis
  return [at > left + 12 ? colours(data(left, at - left - 12)) : 0, right > 0 ? colours(data(at + 12, right)) : 0];
}"""


def test_swiping_between_raw_and_denoised(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.get_by_role("button", name="Swipe").click()
    expect(page.locator('.card[data-line="Fe_Ka"] .map')).to_have_count(1)
    expect(page.locator('.card[data-line="Fe_Ka"] figcaption')).to_have_text(
        re.compile(r"raw \| denoised, (model )?quietbeam-1, 10 rows")
    )
    page.mouse.move(5, 400)
    drawn(page)
    raw, denoised = page.evaluate(HALVES)
    assert 1 < raw < 0.6 * denoised, "counts are whole numbers, the estimate is not"
    canvas = Canvas(page, kind="swipe")
    canvas.drag((30, 19.5), (30, 35.5))
    assert page.evaluate("quietbeam.view.divider") == pytest.approx(0.9, abs=0.02)
    more, less = page.evaluate(HALVES)
    assert less < denoised
    assert more >= raw
    for _ in range(20):
        page.keyboard.press("[")
    assert page.evaluate("quietbeam.view.divider") == 0
    page.keyboard.press("w")
    expect(page.locator('.card[data-line="Fe_Ka"] .map')).to_have_count(2)


def test_the_wall_shows_lines_in_turns_and_no_controls(
    page: Page, dashboard: Dashboard, settings: Settings, redis: Connection
) -> None:
    run = SyntheticRun(settings.runs_dir, redis, shape=(32, 32))
    run.add_rows(32)
    run.denoise()
    open_page(page, dashboard)
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(f"{dashboard.url}?wall=1&lines=3&every=1")
    until(page, "window.quietbeam?.drawn > 0", "the maps")
    for hidden in (".tools", ".bottom", "#rail", "#side"):
        expect(page.locator(hidden)).to_be_hidden()
    seen: set[str] = set()

    def all_seen() -> bool:
        cards = page.evaluate("[...document.querySelectorAll('.card')].map(card => card.dataset.line)")
        assert len(cards) <= 3
        seen.update(cards)
        return seen == set(run.info.lines)

    until(page, all_seen, "every line in its turn")
    expect(page.locator("#wall-lines")).to_have_text(re.compile(r"lines \d–\d of 8"))
    size = page.locator(".card canvas").first.bounding_box()
    assert size
    assert size["width"] > 250
    assert page.evaluate("document.documentElement.scrollHeight") <= 1080
    font = page.evaluate("parseFloat(getComputedStyle(document.querySelector('.card h2')).fontSize)")
    assert font >= 22
    for card in page.locator(".card").all():
        box = card.bounding_box()
        assert box
        assert box["y"] + box["height"] <= 1080


def picture(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_figure_is_saved_as_it_is_seen(page: Page, dashboard: Dashboard, run: SyntheticRun, tmp_path: Path) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    panel = page.locator("#rail").get_by_role("button", name="Save")
    panel.click()

    def save(name: str, **choices: str) -> np.ndarray[Any, Any]:
        for choice, value in choices.items():
            page.locator(f"#figure-{choice}").select_option(value)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save PNG").click()
        assert download.value.suggested_filename == "scan-1042-raw-denoised.png"
        download.value.save_as(tmp_path / name)
        return picture(tmp_path / name)

    whole = save("whole.png", scale="1")
    grey = np.all(whole == NOT_MEASURED_RGB, axis=2)
    assert 0.2 < grey.mean() < 0.6, "what is not measured is grey in the figure too"
    assert np.all(whole[0, 0] == 255)
    assert len(np.unique(whole.reshape(-1, 3), axis=0)) > 200
    larger = save("large.png", scale="2", paper="dark")
    assert larger.shape[0] == pytest.approx(2 * whole.shape[0], abs=2)
    assert tuple(larger[0, 0]) == (11, 14, 19)
    box = Canvas(page).locator.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 3)
    page.mouse.wheel(0, -800)
    until(page, "quietbeam.view.height < 12", "the zoom")
    near = save("near.png", scale="1", paper="white")
    assert np.all(near == NOT_MEASURED_RGB, axis=2).mean() < grey.mean(), "the part that is shown is what is saved"


def test_the_data_is_saved_from_the_page(page: Page, dashboard: Dashboard, run: SyntheticRun, tmp_path: Path) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("x")
    with page.expect_download() as download:
        page.locator("#export-links p", has_text="denoised").get_by_text("npy").click()
    assert download.value.suggested_filename == "scan-1042-denoised.npy"
    download.value.save_as(tmp_path / "maps.npy")
    values = np.load(tmp_path / "maps.npy")
    np.testing.assert_array_equal(values[:, :10], run.buffer.read_map("denoised")[:, :10])
    assert np.isnan(values[:, 10:]).all()
    with page.expect_download() as download:
        page.locator("#export-links p", has_text="denoised").get_by_text("hdf5").click()
    assert download.value.suggested_filename == "scan-1042-denoised.h5"
    download.value.save_as(tmp_path / "maps.h5")
    with h5py.File(tmp_path / "maps.h5") as file:
        np.testing.assert_array_equal(file["entry/denoised/data"][()], values)
    with page.expect_download() as download:
        page.locator("#export-links p", has_text="raw").get_by_label("csv of one line").select_option("Fe_Ka")
    assert download.value.suggested_filename == "scan-1042-raw-Fe_Ka.csv"
    download.value.save_as(tmp_path / "iron.csv")
    assert (tmp_path / "iron.csv").read_text().count("\n") >= 40


def test_lines_of_any_name_are_shown_and_saved(
    page: Page, dashboard: Dashboard, settings: Settings, redis: Connection, tmp_path: Path
) -> None:
    names = ("a/b", "Fe Kα", "鉄_Ka", '<b>"?#')
    run = SyntheticRun(settings.runs_dir, redis, uid="any-names", shape=(40, 30), lines=names, scan_id=7)
    run.add_rows(40)
    run.denoise(final=True)
    page.goto(f"{dashboard.url}?run=any-names&api_key={KEY}")
    for name in names:
        expect(page.locator(".card", has_text=name)).to_be_visible()
    page.keyboard.press("x")
    for n, name in enumerate(names):
        with page.expect_download() as download:
            page.locator("#export-links p", has_text="raw").get_by_label("csv of one line").select_option(name)
        assert (
            download.value.suggested_filename.startswith("scan-7-raw-") and "/" not in download.value.suggested_filename
        )
        download.value.save_as(tmp_path / "line.csv")
        np.testing.assert_allclose(
            np.loadtxt(tmp_path / "line.csv", delimiter=","), run.buffer.read_map("raw")[n], rtol=1e-5
        )
