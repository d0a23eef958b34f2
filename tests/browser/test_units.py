"""The unit of the maps: counts, counts/s and areal densities, with what must be known of them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from quietbeam.core.settings import QuantifySettings, Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection, emit
from quietbeam.quantify import Calibration, LineCalibration, write_calibration

from .conftest import KEY, LINES, Canvas, Dashboard, drawn, open_page, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A calibration of Ca and Fe that is chosen."""
    lines = tuple(
        LineCalibration(line=name, sensitivity=(0.004,) * 4, background=(0.0,) * 4, relative_error=0.05, density=1.0)
        for name in LINES[:2]
    )
    names = tuple(f"det{n + 1}" for n in range(4))
    found = Calibration(
        name="film", standard="AXO", energy_kev=9.1, detectors=names, normalised="i0", kind="counts", lines=lines
    )
    write_calibration(found, settings.calibrations_dir / "film.json")
    return settings.model_copy(update={"quantify": QuantifySettings(calibration="film")})


def value(page: Page, line: str) -> tuple[float, float]:
    """Denoised value and error that the card says."""
    text = page.locator(f'.card[data-line="{line}"] .values').text_content() or ""
    found = re.search(r"denoised (\S+) ± (\S+)", text)
    assert found, text
    return float(found[1].replace(",", "")), float(found[2].replace(",", ""))


def test_the_maps_in_other_units(
    page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection, settings: Settings
) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.locator("#unit").select_option("ug/cm2")
    note = page.locator("#unit-note")
    expect(note).to_contain_text("this run has no I0")
    expect(page.locator('.card[data-line="Fe_Ka"] .bars')).to_contain_text("counts")
    told = run.evidence(final=False, improved=True)
    told = replace(told, i0=2e5, detectors=tuple(replace(one, live_time_s=0.018) for one in told.detectors))
    runs.write_status(redis, run.uid, evidence=told, maps_version=run.version + 1)
    emit(redis, "map", run.uid, version=run.version + 1, rows=run.rows, final=False)
    expect(page.locator('.card[data-line="Fe_Ka"] .bars')).to_contain_text("µg/cm²")
    expect(note).to_contain_text("Self-absorption is not corrected")
    Canvas(page, kind="raw").locator.focus()
    for key in ("ArrowUp", "Control+ArrowUp", "Control+ArrowUp"):
        page.keyboard.press(key)
    drawn(page)
    match = re.search(r"row (\d+), col (\d+)", page.locator("#readout").text_content() or "")
    assert match
    row, col = map(int, match.groups())
    denoised, error = (run.buffer.read_map(kind)[1, row, col] for kind in ("denoised", "uncertainty"))
    factor = 1 / (4 * 0.004 * 2e5 * 0.9)
    got = value(page, "Fe_Ka")
    assert got[0] == pytest.approx(denoised * factor, rel=0.1)
    assert got[1] == pytest.approx(float(np.hypot(error, 0.05 * denoised)) * factor, rel=0.1)
    page.locator("#unit").select_option("counts/s")
    expect(page.locator('.card[data-line="Fe_Ka"] .bars')).to_contain_text("counts/s")
    page.reload()
    expect(page.locator("#unit")).to_have_value("counts/s")
    expect(page.locator('.card[data-line="Fe_Ka"] .bars')).to_contain_text("counts/s")
    page.locator("#unit").select_option("counts")
    expect(note).to_be_hidden()
    assert KEY
