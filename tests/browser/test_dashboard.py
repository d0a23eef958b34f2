"""The dashboard as a person uses it, in a real Chromium, while a run grows."""

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


def test_maps_grow_with_the_run(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    assert page.evaluate("document.createElement('canvas').getContext('webgl')") is None, "WebGL must be off here"
    wait_for_rows(page, 10)
    for line in LINES:
        for kind in ("raw", "denoised"):
            seen = pixels(page, line, kind)
            n = seen["height"]
            assert seen["colours"] > (6 if kind == "raw" else 30) or line == "Zn_Ka", (line, kind, seen["colours"])
            assert max(seen["grey"][: n // 4 - 1]) == 0, "measured rows are not grey"
            assert min(seen["grey"][n // 4 + 1 : n - 40]) == 1, "rows not yet measured are grey"
    updates = page.evaluate("quietbeam.updates")
    for _ in range(3):
        run.add_rows(10)
        run.denoise()
    wait_for_rows(page, 40)
    assert page.evaluate("quietbeam.updates") > updates
    assert sum(pixels(page, "Fe_Ka", "denoised")["grey"]) == 0
    expect(page.locator("#progress-text")).to_contain_text("40 of 40 rows")
    run.denoise(final=True)
    run.finish()
    expect(page.locator("#run-state")).to_have_text("complete")
    expect(page.locator("#denoiser")).to_contain_text("final")


def test_the_evidence_is_told_in_words(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    iron, zinc = page.locator('.card[data-line="Fe_Ka"]'), page.locator('.card[data-line="Zn_Ka"]')
    evidence = run.evidence(final=False, improved=True).line("Fe_Ka")
    assert evidence is not None
    assert evidence.dwell_gain is not None
    expect(iron.locator(".verdict")).to_contain_text(f"×{evidence.dwell_gain:.1f}")
    expect(iron.locator(".verdict")).to_contain_text("dwell gain")
    expect(iron.locator(".values")).to_contain_text("improved · ")
    expect(iron.locator(".values")).to_have_attribute(
        "title", re.compile("^improved: Held-out data prove .*\nestimator: ")
    )
    expect(iron.locator('[data-kind="denoised"] figcaption')).to_have_text("denoised, model quietbeam-1, 10 rows")
    page.set_viewport_size({"width": 1920, "height": 560})  # small cards
    last = iron.locator(".values .part").last
    expect(last).to_have_text(re.compile("^· "))
    rows = iron.locator(".values").evaluate("box => [...box.children].map(one => Math.round(one.offsetTop))")
    assert len(set(rows)) > 1, "what does not fit is in the next line, which is hidden: no word is cut"
    page.set_viewport_size({"width": 1600, "height": 1000})
    calcium, copper = page.locator('.card[data-line="Ca_Ka"]'), page.locator('.card[data-line="Cu_Ka"]')
    expect(calcium.locator(".verdict")).to_have_text("at least ×1.7 dwell gain")
    expect(copper.locator('[data-kind="denoised"] figcaption')).to_have_text("denoised, smoother, 10 rows")
    expect(zinc.locator(".verdict")).to_contain_text("kept raw: no proven gain")
    expect(zinc.locator('[data-kind="denoised"] figcaption')).to_have_text("raw shown, not denoised")
    label = iron.locator('[data-kind="denoised"] canvas').get_attribute("aria-label")
    assert label is not None
    assert re.match(
        r"Fe_Ka denoised, model quietbeam-1, 10 rows: 0 to \S+, linear scale, 10 of 40 rows measured", label
    )


def test_a_card_says_how_long_to_count_for_the_wanted_snr(
    page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection
) -> None:
    evidence = run.evidence(final=False, improved=True)
    calcium = replace(evidence.lines[0], mean_counts=6.25, dwell_gain=10.0, dwell_gain_low=8.0)
    zinc = replace(evidence.lines[-1], mean_counts=4.0)
    dark = replace(evidence.lines[1], mean_counts=0.001)
    lines = (calcium, dark, evidence.lines[2], zinc)
    runs.write_status(redis, run.uid, evidence=replace(evidence, lines=lines))
    page.set_viewport_size({"width": 1366, "height": 768})
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    values = {line: page.locator(f'.card[data-line="{line}"] .values') for line in ("Ca_Ka", "Fe_Ka", "Zn_Ka")}
    expect(values["Ca_Ka"]).to_contain_text("SNR 2.5 → 7.9; for 10: ×16 → ×2.1–2.9")
    expect(values["Ca_Ka"]).to_have_attribute(
        "title",
        re.compile(
            r"10 rows\nSNR now 2.5 raw, 7.9 denoised\nfor 10: dwell ×16 \(0.32 s a pixel\) raw, ×2.1–2.9 \(0.06"
        ),
    )
    expect(values["Fe_Ka"]).to_contain_text("too few counts yet")
    expect(values["Zn_Ka"]).to_contain_text("SNR 2; for 10: ×25")
    tools = page.locator(".tools").bounding_box()
    assert tools
    assert tools["height"] < 50, "the tools stand in one row"
    field = page.get_by_label("Wanted SNR")
    field.fill("4")
    field.press("Enter")
    expect(values["Ca_Ka"]).to_contain_text("SNR 2.5 → 7.9; for 4: ×2.6 → reached")
    for wrong in ("0", "5000", ""):
        field.fill(wrong)
        field.press("Enter")
        expect(field).to_have_value("4")
    page.reload()
    until(page, "window.quietbeam?.connection === 'live'", "the live connection")
    wait_for_rows(page, 10)
    expect(field).to_have_value("4")
    expect(values["Ca_Ka"]).to_contain_text("for 4: ×2.6 → reached")
    page.get_by_role("button", name="Denoised").click()
    page.set_viewport_size({"width": 1120, "height": 1600})  # the maps fill the width, so that text has room below
    expect(values["Ca_Ka"]).to_contain_text("SNR 2.5 raw, 7.9 denoised; for 4: dwell ×2.6 raw, reached denoised")


def test_pointing_at_one_map_reads_all_of_them(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    box = page.locator('.card[data-line="Ca_Ka"] [data-kind="raw"] canvas').bounding_box()
    assert box
    row, col = 6, 20
    at = {"x": box["x"] + (col + 0.5) / 40 * box["width"], "y": box["y"] + (row + 0.5) / 40 * box["height"]}
    page.mouse.move(**at)
    expect(page.locator("#readout")).to_contain_text(f"row {row}, col {col}")
    expect(page.locator("#readout")).to_contain_text(f"slow {-12 + row * 0.25:.2f} µm, fast {-8 + col * 0.25:.2f} µm")
    raw = run.buffer.read_map("raw")[:, row, col]
    for line, value in zip(LINES, raw, strict=True):
        values = page.locator(f'.card[data-line="{line}"] .values')
        expect(values).to_contain_text(f"raw {value:.0f} ")
        expect(values).to_contain_text("±")
    page.mouse.move(at["x"], box["y"] + 0.7 * box["height"])
    expect(page.locator('.card[data-line="Fe_Ka"] .values')).to_have_text("not measured yet")


def test_all_maps_zoom_together_and_keys_work(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    before = pixels(page, "Cu_Ka", "denoised")
    box = page.locator('.card[data-line="Ca_Ka"] [data-kind="raw"] canvas').bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
    page.mouse.wheel(0, -600)
    until(page, "quietbeam.view.width < 20", "the zoom")
    assert abs(page.evaluate("quietbeam.view.left + quietbeam.view.width / 2") - 20) < 1, "it zooms around the pointer"
    page.mouse.move(5, 400)
    drawn(page)
    after = pixels(page, "Cu_Ka", "denoised")
    assert sum(after["grey"]) < sum(before["grey"]), "the other lines show the same part"
    page.keyboard.press("0")
    until(page, "quietbeam.view.whole", "the whole map")
    page.keyboard.press("+")
    until(page, "!quietbeam.view.whole", "zoom by key")
    page.locator("#reset-view").click()
    until(page, "quietbeam.view.whole", "the whole map by button")
    page.keyboard.press("3")
    expect(page.locator('.card[data-line="Fe_Ka"] .map')).to_have_count(3)
    page.keyboard.press("s")
    expect(page.locator('[data-scale="sqrt"]')).to_have_attribute("aria-pressed", "true")
    page.reload()
    until(page, "window.quietbeam?.drawn > 0", "maps after a reload")
    expect(page.locator('.card[data-line="Fe_Ka"] .map')).to_have_count(3)
    expect(page.locator('[data-scale="sqrt"]')).to_have_attribute("aria-pressed", "true")


def test_the_axes_of_all_maps_agree_with_what_is_shown(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    box = page.locator('.card[data-line="Ca_Ka"] [data-kind="raw"] canvas').bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    for zoom in (0, -300, -300):
        page.mouse.wheel(0, zoom)
        drawn(page)
        axes = page.evaluate("quietbeam.axes")
        assert axes["unit"] == "µm" and len(axes["cols"]) >= 3 and len(axes["rows"]) >= 3
        step = 0.25 * page.evaluate("quietbeam.view.width") / box["width"]
        for line, kind in (("Ca_Ka", "raw"), ("Zn_Ka", "denoised")):
            box = page.locator(f'.card[data-line="{line}"] [data-kind="{kind}"] canvas').bounding_box()
            assert box
            for col, across in axes["cols"][1:-1]:
                for row, down in axes["rows"][1:-1]:
                    page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
                    drawn(page)
                    found = re.search(r"slow (\S+) µm, fast (\S+) µm", page.locator("#readout").inner_text())
                    assert found, page.locator("#readout").inner_text()
                    # the readout names the middle of the pixel
                    assert abs(float(found[1]) - row) <= 0.125 + 2 * step + 0.005, (line, row, found[0])
                    assert abs(float(found[2]) - col) <= 0.125 + 2 * step + 0.005, (line, col, found[0])


def test_every_way_to_show_the_maps_draws_them(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.set_viewport_size({"width": 1366, "height": 768})
    for kind in ("uncertainty", "residual", "chi2"):
        page.locator(f'#kinds [data-kind="{kind}"]').click()
        until(page, f"document.querySelector('.map[data-kind={kind}]') !== null", kind)
        until(page, lambda kind=kind: pixels(page, "Ca_Ka", kind)["colours"] > 20, f"the colours of {kind}")
        assert labels_cut(page) == []
    seen = set()
    for cmap in ("viridis", "inferno", "magma", "plasma", "cividis", "gray"):
        page.locator("#cmap").select_option(cmap)
        page.locator("#scales [data-scale=log]").click()
        page.locator("#clip").select_option("5")
        drawn(page)
        canvas = 'document.querySelector(".map[data-kind=raw] canvas")'
        seen.add(page.evaluate(f"{canvas}.toDataURL()"))
    assert len(seen) == 6


def test_residual_and_local_chi_square_are_read_where_they_are_shown(
    page: Page, dashboard: Dashboard, run: SyntheticRun
) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("4")
    page.keyboard.press("5")
    row, col = 6, 20
    shown = Canvas(page, kind="chi2")
    expect(shown.locator).to_have_attribute("aria-label", re.compile("Fe_Ka local χ²: 0 to 9, linear scale"))
    page.mouse.move(*shown.at(row, col))
    raw, denoised, chi2 = (run.buffer.read_map(kind)[1, row, col] for kind in ("raw", "denoised", "chi2"))
    values = page.locator('.card[data-line="Fe_Ka"] .values')
    # read, not still asked for
    expect(values).to_contain_text(re.compile(r"residual\s+[−-]?[\d.]+.*χ²\s+[\d.]+", re.DOTALL))
    words = values.inner_text()
    found = re.search(r"raw (\S+) denoised \S+ ± \S+ residual (\S+) σ χ² (\S+)", " ".join(words.split()))
    assert found, words
    assert [float(text) for text in found.groups()] == pytest.approx(
        [raw, (raw - denoised) / max(denoised, 1) ** 0.5, chi2], abs=0.006
    )
    run.add_rows(10)
    run.denoise()
    wait_for_rows(page, 20)
    page.keyboard.press("h")
    expect(page.locator("#state-facts")).to_contain_text("state 2 of 2")
    page.keyboard.press(",")
    expect(page.locator("#earlier")).to_be_visible()
    expect(page.locator('.card[data-line="Fe_Ka"] [data-kind="chi2"] figcaption')).to_have_text("no χ² kept")


def test_holes_are_filled_for_looking_at_only(
    page: Page, dashboard: Dashboard, settings: Settings, redis: Connection
) -> None:
    """Cells between measured ones take their neighbour's colour when asked; what is read stays unmeasured."""
    run = SyntheticRun(settings.runs_dir, redis, uid="spiral-1", shape=(24, 24))
    run.add_rows(12)
    block = run.buffer.read_row(5)
    block.measured[7] = False
    run.buffer.write_row(5, block)
    run.denoise()
    open_page(page, dashboard)
    wait_for_rows(page, 12)
    box = page.get_by_label("Fill holes")
    expect(box).to_be_visible()
    page.set_viewport_size({"width": 1366, "height": 768})
    drawn(page)
    tools = page.locator(".tools").bounding_box()
    assert tools and tools["height"] < 50, "the tools stand in one row"
    canvas = 'document.querySelector(".map[data-kind=raw] canvas").toDataURL()'
    plain = page.evaluate(canvas)
    box.check()
    drawn(page)
    assert page.evaluate(canvas) != plain
    box.uncheck()
    drawn(page)
    assert page.evaluate(canvas) == plain


def labels_cut(page: Page) -> list[str]:
    """Return the permanent labels of denoised maps that are not wholly seen."""
    labels = "[...document.querySelectorAll('[data-kind=denoised] figcaption')]"
    cut: list[str] = page.evaluate(f"{labels}.filter(c => c.scrollWidth > c.clientWidth).map(c => c.textContent)")
    return cut


def test_the_page_fits_a_small_screen(page: Page, dashboard: Dashboard, settings: Settings, redis: Connection) -> None:
    run = SyntheticRun(settings.runs_dir, redis, shape=(32, 32))
    run.add_rows(32)
    run.denoise()
    open_page(page, dashboard)
    wait_for_rows(page, 32)
    assert page.locator(".card").count() == 8
    for card in page.locator(".card").all():
        box = card.bounding_box()
        assert box
        assert box["y"] + box["height"] <= 768 - 24
        assert box["x"] + box["width"] <= 1366
    size = page.locator("canvas").first.bounding_box()
    assert size
    assert size["width"] >= 120
    many = SyntheticRun(settings.runs_dir, redis, uid="many", shape=(32, 48), lines=tuple(f"L{i}" for i in range(12)))
    many.add_rows(12)
    many.denoise()
    until(page, "document.querySelectorAll('.card').length === 12", "the lines of the next run")
    wait_for_rows(page, 12)
    assert labels_cut(page) == []
    for panel in ("p", "p"):
        page.keyboard.press(panel)
        drawn(page)
        drawn(page)
        assert labels_cut(page) == []
    page.set_viewport_size({"width": 960, "height": 620})
    drawn(page)
    notice = page.locator("#notice").bounding_box()
    assert notice and notice["height"] > 20, "a warning is read where the maps do not fit"


def test_what_may_be_cut_is_whole_in_its_tooltip(
    page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection
) -> None:
    why = "Tiled at http://tiled.example does not answer (connection refused)"
    runs.write_status(redis, run.uid, publish_state="live", publish_reason=why)
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    expect(page.locator("#published")).to_have_text(f"Tiled: live, {why}")
    page.locator("#run-button").click()
    expect(page.locator("#runs-list button")).to_have_count(1)
    cut = page.evaluate("""() => {
      const words = (text) => text.split(/[\\s·▲;:,]+/).filter((word) => /\\w/.test(word) && !word.includes("/"));
      return [...document.querySelectorAll("body *")]
        .filter((e) => getComputedStyle(e).textOverflow === "ellipsis" && e.textContent.trim())
        .filter((e) => !words(e.textContent).every((word) => e.closest("[title]")?.title.includes(word)))
        .map((e) => `${e.className} ${e.id}: ${e.textContent}`);
    }""")
    assert cut == []


def test_lengths_are_the_same_in_both_directions(
    page: Page, dashboard: Dashboard, settings: Settings, redis: Connection
) -> None:
    run = SyntheticRun(settings.runs_dir, redis, uid="oblong", shape=(20, 60), lines=LINES, step=(1.5, 0.5))
    run.add_rows(20)
    run.denoise()
    open_page(page, dashboard)
    wait_for_rows(page, 20)
    box = page.locator("canvas").first.bounding_box()
    assert box
    assert box["height"] == pytest.approx(box["width"], abs=2), "20 rows of 1.5 um are as long as 60 columns of 0.5 um"
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    until(page, "!quietbeam.view.whole", "the zoom")
    expect(page.locator("#readout")).to_contain_text(re.compile("row (9|10), col (29|30) "))
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 20, box["y"] + box["height"] / 2 - 20, steps=3)
    page.mouse.up()
    expect(page.locator("#readout")).to_contain_text(
        re.compile("row (9|10), col (29|30) ")
    )  # it moved with the pointer
    page.locator("#rail").get_by_role("button", name="RGB").click()
    drawn(page)
    composite = page.locator("#rgb-map canvas").bounding_box()
    assert composite
    assert composite["height"] == pytest.approx(composite["width"], abs=2)
