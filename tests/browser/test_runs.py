"""What the page tells of runs, their states and its own connection, in a real Chromium."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection

from .conftest import KEY, LINES, Dashboard, drawn, open_page, pixels, until, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser


def test_the_key_leaves_the_address_and_without_it_there_is_a_sign_in(
    page: Page, dashboard: Dashboard, run: SyntheticRun
) -> None:
    page.goto(dashboard.url)
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Open the dashboard").click()
    expect(page.get_by_role("alert")).to_have_text("The API key is wrong")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Open the dashboard").click()
    until(page, "window.quietbeam?.drawn > 0", "maps after signing in")
    assert page.url == dashboard.url
    assert KEY not in page.evaluate("document.cookie + JSON.stringify(localStorage)")


def test_the_page_comes_back_when_the_service_does(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    dashboard.stop()
    expect(page.locator("#connection")).to_have_text("connection lost")
    assert page.locator(".card").count() == len(LINES), "the last maps stay"
    run.add_rows(10)
    run.denoise()
    dashboard.start()
    until(page, "quietbeam.connection === 'live'", "the connection back")
    wait_for_rows(page, 20)


def test_old_data_is_told(page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection) -> None:
    runs.write_status(redis, run.uid, last_document_at=time.time() - 45)
    open_page(page, dashboard)
    expect(page.locator("#age")).to_have_attribute("data-old", "true")
    expect(page.locator("#age")).to_have_text(re.compile(r"no data for (4\d s|5\d s|1 min)"))  # a busy machine is slow
    run.add_rows(1)
    expect(page.locator("#age")).to_contain_text("data now")


def test_the_page_follows_the_latest_run_until_one_is_chosen(
    page: Page, dashboard: Dashboard, run: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    second = SyntheticRun(settings.runs_dir, redis, uid="run-2", shape=(20, 60), lines=LINES[:2], scan_id=1043)
    expect(page.locator("#run-name")).to_have_text("Scan 1043")
    second.add_rows(5)
    second.denoise()
    until(page, "document.querySelectorAll('.card').length === 2", "the new run's lines")
    page.locator("#run-button").click()
    page.get_by_label("Search runs").fill("1042 frozen cell 7")
    page.locator("#runs-list button").click()
    expect(page.locator("#run-name")).to_have_text("Scan 1042")
    expect(page.locator("#follow")).not_to_be_checked()
    until(page, "document.querySelectorAll('.card').length === 4", "the chosen run's lines")
    second.finish(RunState.ABORTED, "stopped by hand")
    SyntheticRun(settings.runs_dir, redis, uid="run-3", shape=(5, 5), lines=LINES[:1], scan_id=1044)
    run.add_rows(1)
    until(page, "quietbeam.run.progress.rows_measured === 11", "the chosen run's next row")
    expect(page.locator("#run-name")).to_have_text("Scan 1042")
    page.locator("#follow").check()
    expect(page.locator("#run-name")).to_have_text("Scan 1044")


def test_an_aborted_run_tells_why(page: Page, dashboard: Dashboard, run: SyntheticRun) -> None:
    run.finish(RunState.ABORTED, "the shutter closed <b>in row 11</b>")
    open_page(page, dashboard)
    expect(page.locator("#run-state")).to_have_text("aborted")
    expect(page.locator("#notice")).to_contain_text("the shutter closed <b>in row 11</b>")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RunState.ABORTED, "aborted"),
        (RunState.FAILED, "failed"),
        (RunState.STALE, "no data (stalled)"),
        (RunState.INCOMPLETE, "incomplete"),
        (RunState.PAUSED, "paused"),
    ],
)
def test_the_state_is_told_in_words(
    page: Page, dashboard: Dashboard, run: SyntheticRun, state: RunState, words: str
) -> None:
    run.finish(state, "a sentence about it")
    open_page(page, dashboard)
    expect(page.locator("#run-state")).to_have_text(words)
    expect(page.locator("#notice")).to_contain_text("a sentence about it")
    page.locator("#run-button").click()
    expect(page.locator("#runs-list button")).to_contain_text(words)


def test_a_run_that_cannot_be_mapped_says_why(page: Page, dashboard: Dashboard, redis: Connection) -> None:
    runs.register_run(redis, "run-9", time.time())
    why = "no profile matches its keys: xs_roi1"
    told = {"scan_id": 77, "plan": "count", "time_start": time.time()}
    runs.write_status(redis, "run-9", state=RunState.UNUSABLE, reason=why, **told)
    open_page(page, dashboard)
    expect(page.locator("#run-state")).to_have_text("not a map")
    expect(page.locator("#grid")).to_have_text(f"Scan 77, count: not a map{why}")
    expect(page.locator("#notice")).to_be_hidden()
    page.locator("#run-button").click()
    listed = page.locator("#runs-list .no-map")
    expect(listed).to_contain_text("Scan 77count")
    assert why not in (listed.get_attribute("title") or "") + listed.inner_text(), "once, where the maps would be"


@pytest.mark.run_is_deleted  # that of the test before
def test_a_page_without_runs_waits_and_then_shows_the_first(
    page: Page, dashboard: Dashboard, settings: Settings, redis: Connection
) -> None:
    open_page(page, dashboard)
    expect(page.locator("#grid")).to_contain_text("start a scan")
    run = SyntheticRun(settings.runs_dir, redis, shape=(10, 10), lines=LINES[:1])
    run.add_rows(3)
    until(page, "document.querySelectorAll('.card').length === 1", "the first run")
    expect(page.locator(".verdict")).to_have_text("no evidence yet")
    drawn(page)
    assert pixels(page, "Ca_Ka", "raw")["colours"] > 2, "raw is there before the denoiser is"


def test_a_slow_client_skips_changes_and_ends_with_the_newest(
    page: Page, dashboard: Dashboard, settings: Settings, redis: Connection
) -> None:
    run = SyntheticRun(settings.runs_dir, redis, shape=(64, 64))
    run.add_rows(20)
    run.denoise()
    open_page(page, dashboard)
    wait_for_rows(page, 20)
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 30, "downloadThroughput": 300_000, "uploadThroughput": 300_000}
    network.send("Network.emulateNetworkConditions", slow)  # one change is 0.4 MB: more than a second
    before = page.evaluate("quietbeam.stacks")
    for _ in range(20):
        run.add_rows(2)
        run.denoise()
        page.wait_for_timeout(50)
    page.keyboard.press("4")
    expect(page.locator(".map[data-kind=residual]").first).to_be_visible()  # the page answers meanwhile
    network.send("Network.emulateNetworkConditions", {**slow, "downloadThroughput": -1, "uploadThroughput": -1})
    wait_for_rows(page, 60)
    assert page.evaluate("quietbeam.stacks") - before < 12, "changes it had no time for are skipped"


def test_older_runs_are_found_too(page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection) -> None:
    for n in range(203):
        info = replace(run.info, uid=f"old-{n}", scan_id=n, time_start=run.info.time_start - 60 * (n + 1))
        runs.register_run(redis, info.uid, info.time_start)
        runs.write_status(redis, info.uid, info=info, state=RunState.COMPLETE, rows_measured=1, pixels_measured=1)
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("r")
    found = page.locator("#runs-list button:not(.more)")
    expect(found).to_have_count(200)
    page.get_by_label("Search runs").fill("Scan 201 complete")
    expect(found).to_have_count(0)
    page.get_by_role("button", name="Search older runs too (4)").click()
    expect(found).to_have_count(1)
    expect(found).to_contain_text("Scan 201")
    expect(page.locator("#runs-list .more")).to_have_count(0)
