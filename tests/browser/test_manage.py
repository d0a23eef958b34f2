"""The panel "run": what may be done with a run, by whose key, and that it happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from quietbeam.buffer import list_buffers
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import actions
from quietbeam.core.wire.actions import ActionKind
from quietbeam.core.wire.bus import Connection, connect
from quietbeam.ingest.stage.service import IngestStage
from quietbeam.ingest.transports import MemorySource
from quietbeam.serve.access import Scope
from quietbeam.serve.access.api_keys import KeyStore
from quietbeam_models.weights import available

from .conftest import Dashboard, open_page, until, wait_for_rows
from .synthetic_run import SyntheticRun

pytestmark = pytest.mark.browser


@contextmanager
def ingest_runs(settings: Settings) -> Iterator[None]:
    """The stage that pins and deletes, in a thread."""
    stop, connection = threading.Event(), connect(settings.redis_url)
    stage = IngestStage(settings, connection, [MemorySource()])

    def loop() -> None:
        while not stop.is_set():
            stage.step()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        stage.close()
        connection.close()


def finish(run: SyntheticRun) -> None:
    run.denoise(final=True)
    run.finish(RunState.INCOMPLETE, "stopped by hand")


def test_a_run_is_pinned_unpinned_and_deleted_from_the_page(
    page: Page, dashboard: Dashboard, run: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    finish(run)
    older = SyntheticRun(settings.runs_dir, redis, uid="run-0", shape=(40, 40), scan_id=1041, time_start=1.0)
    older.add_rows(5)
    older.denoise()
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("m")
    facts = page.locator("#manage-facts")
    expect(facts).to_contain_text("frozen cell 7")
    expect(facts).to_contain_text("40 × 40 pixels, 4 lines, 4 detectors")
    pin, delete, message = (page.locator(f"#manage-{name}") for name in ("pin", "delete", "actions"))
    with ingest_runs(settings):
        pin.click()
        expect(message).to_have_text("pin: done")
        expect(pin).to_have_text("Unpin (allow automatic deletion)")
        expect(facts).to_contain_text("yes: deleted neither by its age nor by hand")
        expect(delete).to_be_disabled()
        expect(delete).to_have_attribute("title", "Run is pinned. Unpin it first.")
        pin.click()
        expect(message).to_have_text("unpin: done")
        expect(delete).to_be_enabled()
        delete.click()
        expect(page.locator("#delete-text")).to_contain_text("Delete scan 1042 (fly_raster,")
        page.keyboard.press("Enter")  # the button that has the focus is the harmless one
        expect(page.locator("#delete")).to_be_hidden()
        assert "run-1" in list_buffers(settings.runs_dir)
        delete.click()
        page.locator("#delete-yes").click()
        until(page, "quietbeam.run?.uid === 'run-0'", "the older run in its place", 30)
        assert list_buffers(settings.runs_dir) == ["run-0"]
        expect(page.locator("#run-name")).to_have_text("Scan 1041")


@pytest.mark.run_is_deleted
def test_the_only_run_is_deleted_and_the_page_waits(
    page: Page, dashboard: Dashboard, run: SyntheticRun, settings: Settings
) -> None:
    finish(run)
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("m")
    with ingest_runs(settings):
        page.locator("#manage-delete").click()
        page.locator("#delete-yes").click()
        expect(page.locator(".empty strong")).to_have_text("No run yet: start a scan")


def test_denoising_again_is_asked_with_the_chosen_weights(
    page: Page, dashboard: Dashboard, run: SyntheticRun, redis: Connection
) -> None:
    open_page(page, dashboard)
    wait_for_rows(page, 10)
    page.keyboard.press("m")
    again = page.locator("#manage-denoise")
    expect(again).to_have_attribute("title", "the run is still measured")
    expect(again).to_be_disabled()
    finish(run)
    expect(again).to_be_enabled()
    page.locator("#manage-weights").select_option(available()[0])
    page.locator("#manage-budget").fill("7200")
    again.click()
    expect(page.locator("#manage-actions")).to_contain_text("▲ seconds of fine-tuning: 0 to 3600")
    page.locator("#manage-budget").fill("12")
    again.click()
    expect(page.locator("#manage-actions")).to_contain_text("denoise again: queued (asked by")
    expect(again).to_be_disabled()
    [action] = actions.waiting(redis, run.uid)
    assert (action.kind, dict(action.options)) == (ActionKind.DENOISE, {"weights": available()[0], "budget_s": 12})
    actions.set_state(redis, action, "failed", "no such device")
    expect(page.locator("#manage-actions")).to_contain_text("denoise again failed: no such device")


def test_a_key_that_only_reads_is_told_what_it_lacks(
    page: Page, dashboard: Dashboard, run: SyntheticRun, settings: Settings
) -> None:
    finish(run)
    scopes = [Scope.READ_METADATA, Scope.READ_DATA]
    secret, _ = KeyStore(settings.secrets_dir / "api_keys.json").create("visitor", scopes)
    page.goto(f"{dashboard.url}?api_key={secret}")
    wait_for_rows(page, 10)
    page.keyboard.press("m")
    expect(page.locator("#manage-limits")).to_contain_text("your key may not change anything")
    for name in ("denoise", "pin", "delete", "chosen"):
        expect(page.locator(f"#manage-{name}")).to_be_disabled()
