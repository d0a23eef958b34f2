"""Many tabs of one browser: HTTP/1.1 has six connections a server, and all tabs are live."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from .conftest import KEY, Dashboard, open_page, until, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser

LIVE = "window.quietbeam?.connection === 'live'"


def test_eight_tabs_are_live_and_follow_the_run(chromium: Browser, dashboard: Dashboard, run: SyntheticRun) -> None:
    context = chromium.new_context()
    tabs: list[Page] = []
    try:
        for _ in range(8):
            tab = context.new_page()
            tab.set_default_timeout(15_000)
            tab.goto(f"{dashboard.url}?api_key={KEY}" if not tabs else dashboard.url)
            until(tab, LIVE, "the live connection")
            tabs.append(tab)
        assert dashboard.viewers() == 1
        run.add_rows(10)
        run.denoise()
        for tab in tabs:
            wait_for_rows(tab, 20)
        tabs[0].close()  # the one that came first is not needed
        dashboard.stop()
        for tab in tabs[1:]:
            until(tab, "quietbeam.connection !== 'live'", "a lost connection")
        dashboard.start()
        for tab in tabs[1:]:
            until(tab, LIVE, "the live connection", within_s=30)
        run.add_rows(10)
        run.denoise()
        for tab in tabs[1:]:
            wait_for_rows(tab, 30)
    finally:
        context.close()


def test_a_browser_that_shares_nothing_has_a_stream_of_its_own(
    page: Page, dashboard: Dashboard, run: SyntheticRun
) -> None:
    page.add_init_script("delete globalThis.SharedWorker")
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    run.add_rows(10)
    run.denoise()
    wait_for_rows(page, 20)


def test_a_worker_that_cannot_run_is_replaced_by_a_stream(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    page.add_init_script(
        "const Real = SharedWorker;"
        "globalThis.SharedWorker = class extends Real {"
        "  constructor(url, options) { super(new URL('missing.js', url), options); }"
        "};"
    )
    page.goto(f"{dashboard.url}?api_key={KEY}")
    until(page, LIVE, "the live connection")
    wait_for_rows(page, 10)
