"""Names out of documents are text in the page and in the report, whatever they hold."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection, emit

from .conftest import Dashboard, drawn, open_page, until, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser

IMAGE = '<img src="x" onerror="window.hacked=1">'
SCRIPT = "\"'></title></textarea><script>window.hacked=1</script>"
VECTOR = "<svg onload=window.hacked=1><a href='javascript:window.hacked=1'>Fe_Ka</a>"
TEMPLATE = "${window.hacked=1}{{constructor.constructor('window.hacked=1')()}}"
NAMES = (IMAGE, SCRIPT, VECTOR, TEMPLATE)
UID = "hostile"


@pytest.fixture
def hostile(settings: Settings, redis: Connection) -> SyntheticRun:
    """A run in which every text of a document is an attempt at the page."""
    run = SyntheticRun(settings.runs_dir, redis, uid=UID, shape=(12, 10), lines=NAMES, detectors=4)
    run.add_rows(12)
    run.denoise(final=True)
    info = replace(
        run.info,
        detectors=NAMES,
        plan=SCRIPT,
        profile=VECTOR,
        units=IMAGE,
        axes=(IMAGE, SCRIPT),
        metadata={"sample": IMAGE, SCRIPT: {VECTOR: TEMPLATE}, "plan_name": SCRIPT},
    )
    runs.write_status(redis, UID, info=info, warnings=NAMES, reason=IMAGE)
    return run


def attempts(page: Page) -> int:
    """Return how many elements of the names stand in the page as elements."""
    found = "img[src=x], [onerror], [onload], a[href^=javascript]"
    return int(page.evaluate("found => document.querySelectorAll(found).length", found))


def test_nothing_of_a_name_runs_in_the_page(
    page: Page, dashboard: Dashboard, hostile: SyntheticRun, redis: Connection
) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    open_page(page, dashboard)
    wait_for_rows(page, 12)
    emit(redis, "warning", UID, name=IMAGE, reason=SCRIPT)
    emit(redis, IMAGE, UID, name=IMAGE, reason=SCRIPT)
    expect(page.locator(".card")).to_have_count(len(NAMES))
    for name in NAMES:
        assert page.get_by_text(name, exact=False).count(), name
    buttons = page.locator("#rail button")
    for n in range(buttons.count()):
        buttons.nth(n).click()
        drawn(page)
        page.wait_for_timeout(100)
        assert attempts(page) == 0, buttons.nth(n).text_content()
    page.locator(".map canvas").first.hover()
    page.locator("#run-button").click()
    expect(page.locator("#runs-list button").first).to_contain_text("<img")
    page.keyboard.press("Escape")
    runs.write_status(redis, UID, state=RunState.ABORTED, reason=IMAGE)
    emit(redis, "run", UID, state="aborted")
    until(page, "quietbeam.run.state === 'aborted'", "the aborted run")
    drawn(page)
    assert attempts(page) == 0
    assert page.evaluate("window.hacked") is None
    assert not dialogs


def test_nothing_of_a_name_runs_in_the_report(page: Page, dashboard: Dashboard, hostile: SyntheticRun) -> None:
    open_page(page, dashboard)
    page.goto(f"{dashboard.url}api/v1/runs/{UID}/report")
    expect(page.locator("body")).to_contain_text(IMAGE)
    assert attempts(page) == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 0
    assert page.evaluate("window.hacked") is None


@pytest.mark.run_is_deleted  # there is no such run
def test_nothing_of_an_address_runs_in_the_page(page: Page, dashboard: Dashboard, hostile: SyntheticRun) -> None:
    for name in NAMES:
        text = quote(name)
        page.goto(f"{dashboard.url}?run={text}&lines={text}&cmap={text}&api_key=key-of-the-test#{text}")
        until(page, "window.quietbeam !== undefined", "the page")
        page.wait_for_timeout(300)
        assert attempts(page) == 0
        assert page.evaluate("window.hacked") is None
