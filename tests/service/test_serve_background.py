"""Tasks beside the requests: one that fails is logged, counted and begun again, and misses nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from serve_kit import HEADER, make_run, wait_for, with_serve
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection, emit
from quietbeam.serve import app as app_module
from quietbeam.serve import background, create_app
from quietbeam.serve.live.hub import EventHub
from quietbeam.serve.report.writer import ReportWriter
from quietbeam.serve.state.damage_watch import DamageWatch


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PAUSES_S", (0.3,))


async def test_a_task_that_fails_or_ends_begins_again_until_the_service_closes() -> None:
    turns: list[int] = []
    counted: list[str] = []

    async def work() -> None:
        turns.append(len(turns))
        if len(turns) < 3:
            raise ZeroDivisionError("a bug")

    with capture_logs() as logs:
        await asyncio.wait_for(
            background.keep_running("work", work, counted.append, is_closing=lambda: len(turns) > 4), 20
        )
    assert turns == [0, 1, 2, 3, 4] and counted == ["work"] * 4
    assert [line["error"] for line in logs] == ["ZeroDivisionError: a bug"] * 2 + ["it ended by itself"] * 2


def failing_once(method: Any, turn: int) -> Any:
    turns: list[int] = []

    async def call(self: Any, *arguments: Any) -> Any:
        turns.append(len(turns))
        if turns[-1] == turn:
            raise ZeroDivisionError("a bug")
        return await method(self, *arguments)

    return call


@pytest.mark.parametrize(
    ("owner", "name", "turn", "task"),
    [
        (EventHub, "_read_page", 0, "event-reader"),
        (ReportWriter, "_handle", 0, "reports"),
        (app_module, "_beat", 0, "heartbeat"),
        (DamageWatch, "run", 0, "damage-watch"),
    ],
)
def test_the_tasks_of_the_service_outlive_a_bug(
    settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, turn: int, task: str
) -> None:
    settings = with_serve(settings, reports=True)
    run = make_run(settings, redis)
    monkeypatch.setattr(owner, name, failing_once(getattr(owner, name), turn))
    with TestClient(create_app(settings), headers=HEADER) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        emit(redis, "warning", "run-1", name="ingest", reason="something happens")
        counted = f'quietbeam_background_task_failures_total{{task="{task}"}} 1.0'
        wait_for(lambda: counted in client.get("/metrics").text)
        run.add_rows(4)
        run.denoise(final=True)
        wait_for((settings.data_dir / "reports" / "run-1.html").exists)
        wait_for(lambda: client.get("/readyz").json()["stages"].get("serve") == "ready")
