"""Changes over the API, done by the stages that own the things: real Valkey, real buffers, stages turned by hand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from serve_kit import HEADER, make_run, problem, with_serve
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from browser.synthetic_run import SyntheticRun
from quietbeam.app.damaged_runs import size_of_runs
from quietbeam.app.finding import Finding
from quietbeam.app.ports import free_port
from quietbeam.buffer import RunBuffer, list_buffers
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings, TiledSettings
from quietbeam.core.wire import actions, keys, runs
from quietbeam.core.wire.actions import ActionKind, Inbox
from quietbeam.core.wire.bus import Connection, quarantine
from quietbeam.denoiser.live.stage import DenoiseStage
from quietbeam.ingest.stage.service import IngestStage
from quietbeam.ingest.stage.size_limit import count_all
from quietbeam.ingest.transports import MemorySource
from quietbeam.publish import PublishStage
from quietbeam.serve import create_app
from quietbeam_models.weights import DEFAULT, FOLDER, available

HERE = "/api/v1/runs/run-1"
OLDER = available()[0]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    denoise = settings.denoise.model_copy(
        update={"device": "cpu", "final_budget": timedelta(seconds=0.5), "live_budget": timedelta(seconds=0.5)}
    )
    return with_serve(settings).model_copy(update={"denoise": denoise})


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    """A finished run."""
    run = make_run(settings, redis)
    run.denoise(final=True)
    run.finish(RunState.INCOMPLETE, "stopped by hand")
    return run


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=HEADER, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def ingest(settings: Settings, redis: Connection) -> Iterator[IngestStage]:
    stage = IngestStage(settings, redis, [MemorySource()])
    yield stage
    stage.close()


def turn(stage: Any, until: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, "the stage did not get there"
        stage.step()


def follow(client: TestClient, answer: Any) -> dict[str, Any]:
    """Return the action that an answer leads to, as it is now."""
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = client.get(answer.headers["location"]).raise_for_status().json()["data"]["attributes"]
    return found


def attributes(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get(HERE).raise_for_status().json()["data"]["attributes"]
    return found


# --- pins -----------------------------------------------------------------------------------------------------------


def test_a_pin_is_kept_with_the_run_and_asking_twice_is_asking_once(
    client: TestClient, run: SyntheticRun, ingest: IngestStage, settings: Settings, redis: Connection
) -> None:
    asked = client.put(f"{HERE}/pin")
    again = client.put(f"{HERE}/pin")
    assert asked.status_code == again.status_code == 202
    assert asked.headers["location"] == again.headers["location"]
    waits = client.get(HERE).json()["meta"]["actions"]
    assert [(one["attributes"]["action"], one["attributes"]["state"]) for one in waits] == [("pin", "queued")]
    turn(ingest, lambda: follow(client, asked)["state"] == "done")
    assert attributes(client)["pinned"] is True
    assert RunBuffer.open(settings.runs_dir, "run-1").state()["pinned"] is True
    assert client.put(f"{HERE}/pin").status_code == 200, "it is so already"
    assert client.get(HERE).json()["meta"]["actions"] == []

    redis.flushall()
    ingest.recover()
    assert attributes(client)["pinned"] is True, "Redis is not where it is kept"
    off = client.delete(f"{HERE}/pin")
    turn(ingest, lambda: follow(client, off)["state"] == "done")
    assert attributes(client)["pinned"] is False
    assert client.delete(f"{HERE}/pin").status_code == 200


# --- deletion -------------------------------------------------------------------------------------------------------


def test_a_deleted_run_is_gone_everywhere_and_who_did_it_is_in_the_log(
    client: TestClient, run: SyntheticRun, ingest: IngestStage, settings: Settings, redis: Connection
) -> None:
    other = make_run(settings, redis, uid="run-2")
    report = settings.data_dir / "reports" / "run-1.html"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("report")
    quarantine(redis, run="run-1", name="event", reason="odd", payload=b"secret")
    with capture_logs() as log:
        asked = client.delete(HERE)
        assert client.delete(HERE).headers["location"] == asked.headers["location"]
        turn(ingest, lambda: follow(client, asked)["state"] == "running")
    audit = next(line for line in log if line["event"] == "action_requested")
    assert (audit["action"], audit["run"], audit["by"], audit["kind"]) == (
        "delete",
        "run-1",
        "single user",
        "single_user",
    )
    assert "Tiled follows" in follow(client, asked)["reason"]
    assert "no run" in problem(client.get(HERE), 404)
    assert "no run" in problem(client.delete(HERE), 404)
    assert client.get("/api/v1/runs").json()["meta"]["count"] == 1
    assert list_buffers(settings.runs_dir) == ["run-2"]
    assert not [path for path in settings.runs_dir.iterdir() if "run-1" in path.name]
    assert not redis.exists(keys.run("run-1"), keys.context("run-1"), keys.lease("run-1"))
    events = {(e[b"run"], e[b"type"]) for _, e in redis.xrange(keys.EVENTS)}  # type: ignore[union-attr]
    assert events == {(b"run-1", b"run"), (b"run-1", b"action")} | {
        (b"run-2", kind) for kind in (b"run", b"row", b"map")
    }
    assert redis.xlen(keys.QUARANTINE) == 0
    assert other.buffer.measured().any()
    deadline = time.monotonic() + 20
    while report.exists():
        assert time.monotonic() < deadline, "its report stayed"
        time.sleep(0.01)
    ingest.recover()
    assert client.get(HERE).status_code == 404, "it does not come back"


def test_tiled_is_cleaned_when_it_answers_and_until_then_the_action_says_so(
    client: TestClient, run: SyntheticRun, ingest: IngestStage, settings: Settings, redis: Connection
) -> None:
    away = f"http://127.0.0.1:{free_port()}/api/v1"
    publish = PublishStage(
        settings.model_copy(update={"tiled": TiledSettings(uri=away, api_key="key")}),  # type: ignore[arg-type]
        redis,
    )
    try:
        asked = client.delete(HERE)
        turn(ingest, lambda: follow(client, asked)["state"] == "running")
        turn(publish, lambda: "does not answer" in follow(client, asked)["reason"])
        assert follow(client, asked)["state"] == "running"
    finally:
        publish.close()
    assert Inbox(redis, "publish", "publish").read()[0].run == "run-1", "its successor finds it again"


def test_what_must_not_be_deleted_is_refused_with_what_to_do(
    client: TestClient, run: SyntheticRun, redis: Connection
) -> None:
    assert "by its uid" in problem(client.delete("/api/v1/runs/latest"), 400)
    problem(client.delete("/api/v1/runs/nobody"), 404)
    runs.write_status(redis, "run-1", pinned=1)
    assert "unpin it first" in problem(client.delete(HERE), 409)
    runs.write_status(redis, "run-1", pinned=0)
    redis.set(keys.lease("run-1"), "a worker")
    runs.write_status(redis, "run-1", denoise_state="live")
    assert "being denoised" in problem(client.delete(HERE), 409)
    redis.delete(keys.lease("run-1"))
    runs.write_status(redis, "run-1", state=RunState.RUNNING)
    assert "still measured" in problem(client.delete(HERE), 409)
    runs.write_status(redis, "run-1", state=RunState.STALE)
    assert client.delete(HERE).status_code == 202
    assert "delete was requested" in problem(client.post(f"{HERE}/denoise"), 409)
    assert "delete was requested" in problem(client.put(f"{HERE}/pin"), 409)


def test_a_deletion_waits_for_the_worker_and_fails_when_the_run_was_pinned_meanwhile(
    client: TestClient, run: SyntheticRun, ingest: IngestStage, redis: Connection
) -> None:
    asked = client.delete(HERE)
    redis.set(keys.lease("run-1"), "a worker")
    for _ in range(5):
        ingest.step()
    assert follow(client, asked)["state"] == "queued" and run.buffer.path.exists()
    runs.write_status(redis, "run-1", pinned=1)
    redis.delete(keys.lease("run-1"))
    turn(ingest, lambda: follow(client, asked)["state"] == "failed")
    assert "pinned meanwhile" in follow(client, asked)["reason"] and run.buffer.path.exists()


def test_old_runs_go_with_their_age_unless_they_are_pinned(settings: Settings, redis: Connection) -> None:
    for uid, hours, state in (
        ("old", 50, RunState.COMPLETE),
        ("old-pinned", 50, RunState.COMPLETE),
        ("old-running", 50, RunState.RUNNING),
        ("new", 1, RunState.COMPLETE),
    ):
        made = SyntheticRun(
            settings.runs_dir, redis, uid=uid, shape=(2, 3), lines=("Fe_Ka",), time_start=time.time() - hours * 3600
        )
        made.finish(state)
        runs.write_status(redis, uid, time_stop=time.time() - hours * 3600)
    runs.write_status(redis, "old-pinned", pinned=1)
    keeping = settings.ingest.model_copy(update={"keep_runs": timedelta(hours=48)})
    stage = IngestStage(settings.model_copy(update={"ingest": keeping}), redis, [MemorySource()])
    try:
        turn(stage, lambda: len(list_buffers(settings.runs_dir)) < 4)
        for _ in range(5):
            stage.step()
    finally:
        stage.close()
    assert list_buffers(settings.runs_dir) == ["new", "old-pinned", "old-running"]


def test_the_oldest_runs_that_nobody_needs_go_when_all_take_too_much(settings: Settings, redis: Connection) -> None:
    names = ("pinned", "running", "stale", "to-denoise", "to-refine", "in-hand", "asked", "oldest", "older", "newest")
    for age, uid in enumerate(reversed(names)):
        made = SyntheticRun(
            settings.runs_dir, redis, uid=uid, shape=(4, 3), lines=("Fe_Ka",), time_start=time.time() - age * 100
        )
        made.add_rows(4)
        made.denoise(final=True)
        made.finish({"running": RunState.RUNNING, "stale": RunState.STALE}.get(uid, RunState.COMPLETE))
    runs.write_status(redis, "pinned", pinned=1)
    runs.write_status(redis, "to-denoise", denoise_state="waiting")
    redis.zadd(keys.REFINE, {"to-refine": 1.0})
    redis.set(keys.lease("in-hand"), "a worker")
    actions.submit(redis, ActionKind.DENOISE, "asked", "somebody")
    sizes = count_all(settings.runs_dir)
    fits = sum(sizes.values()) - sizes["oldest"] - sizes["older"]

    def remaining(limit: int) -> tuple[set[str], list[str], list[Finding]]:
        limited = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"keep_bytes": limit})})
        before = len(list_buffers(settings.runs_dir))
        with capture_logs() as log:
            stage = IngestStage(limited, redis, [MemorySource()])
            try:
                turn(stage, lambda: len(list_buffers(settings.runs_dir)) < before)
                for _ in range(10):
                    stage.step()
            finally:
                stage.close()
        said = [line["reason"] for line in log if line["event"] == "runs_above_limit"]
        return set(list_buffers(settings.runs_dir)), said, list(size_of_runs(limited))

    left, said, found = remaining(fits)
    assert left == set(names) - {"oldest", "older"} and not said
    assert found[0].verdict == "ok" and "8 runs" in found[0].found
    left, said, found = remaining(1)
    assert left == set(names) - {"oldest", "older", "newest"}, "the others stay, whatever the limit says"
    for text in (said[0], found[0].found):
        assert all(w in text for w in ("1 pinned", "2 not ended", "1 to be denoised", "1 to be refined", "worker"))
    assert found[0].verdict == "warning"


# --- denoising again, weights ---------------------------------------------------------------------------------------


def test_a_finished_run_is_denoised_again_with_other_weights(
    client: TestClient, run: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    worker = DenoiseStage(settings, redis, owner="here")
    before = run.buffer.read_map("denoised")
    version = attributes(client)["maps_version"]
    options = {"weights": OLDER, "budget_s": 0.5}
    asked = client.post(f"{HERE}/denoise", json=options)
    assert client.post(f"{HERE}/denoise", json=options).headers["location"] == asked.headers["location"]
    detail = problem(client.post(f"{HERE}/denoise", json={"budget_s": 3}), 409)
    assert "other options" in detail and "single user" in detail
    turn(worker, lambda: follow(client, asked)["state"] == "done")
    now = attributes(client)
    assert now["denoise"]["state"] == "final" and now["denoise"]["model"] == OLDER
    assert now["evidence"]["final"] and now["evidence"]["fine_tune_s"] <= 30
    assert now["maps_version"] > version and (run.buffer.read_map("denoised") != before).any()
    assert redis.hget(keys.run("run-1"), "denoise_request") is None
    assert client.post(f"{HERE}/denoise", json=options).status_code == 202, "it can be asked again"


def test_a_worker_that_dies_over_it_is_followed_by_one_that_knows_what_was_asked(
    client: TestClient, run: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    asked = client.post(f"{HERE}/denoise", json={"weights": OLDER, "budget_s": 0})
    DenoiseStage(settings, redis, owner="here")._requests.poll()  # and it dies before it has the run
    assert follow(client, asked)["state"] == "running"
    turn(DenoiseStage(settings, redis, owner="there"), lambda: follow(client, asked)["state"] == "done")
    assert attributes(client)["denoise"]["model"] == OLDER


def test_a_run_that_the_worker_has_in_hand_begins_anew_with_what_was_asked(
    client: TestClient, run: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    worker = DenoiseStage(settings, redis, owner="here")
    worker._jobs.start("run-1")
    action = actions.submit(redis, ActionKind.DENOISE, "run-1", "somebody", {"weights": OLDER, "budget_s": 0})
    turn(worker, lambda: (actions.read(redis, action.id) or action).settled)
    assert attributes(client)["denoise"]["model"] == OLDER


def test_what_cannot_be_denoised_again_is_refused(client: TestClient, run: SyntheticRun, redis: Connection) -> None:
    assert DEFAULT in problem(client.post(f"{HERE}/denoise", json={"weights": "../../etc/passwd"}), 404)
    for bad in ({"budget_s": -1}, {"budget_s": 4000}, {"budget_s": "long"}, {"weight": "x"}, [], "x"):
        problem(client.post(f"{HERE}/denoise", json=bad), 422)
    runs.write_status(redis, "run-1", state=RunState.RUNNING)
    assert "when it has ended" in problem(client.post(f"{HERE}/denoise"), 409)
    runs.write_status(redis, "run-1", state=RunState.COMPLETE)
    redis.set(keys.lease("run-1"), "a worker")
    runs.write_status(redis, "run-1", denoise_state="live")
    assert "being denoised" in problem(client.post(f"{HERE}/denoise"), 409)
    runs.write_status(redis, "run-1", denoise_state="final")
    assert client.post(f"{HERE}/denoise").status_code == 202, "a worker that refines gives way"
    redis.hset(keys.run("odd"), mapping={"state": "unusable", "reason": "no shape"})
    redis.zadd(keys.RUNS, {"odd": 5.0})
    assert "no shape" in problem(client.post("/api/v1/runs/odd/denoise"), 409)
    assert "nothing on disk" in problem(client.put("/api/v1/runs/odd/pin"), 409)
    problem(client.post("/api/v1/runs/nobody/denoise"), 404)


def test_chosen_weights_are_those_of_the_next_run(
    client: TestClient, settings: Settings, redis: Connection, run: SyntheticRun
) -> None:
    worker = DenoiseStage(settings, redis, owner="here")
    assert client.get("/api/v1/models").json()["meta"]["chosen"] is None
    asked = client.put("/api/v1/models/chosen", json={"id": OLDER})
    turn(worker, lambda: follow(client, asked)["state"] == "done")
    assert client.get("/api/v1/models").json()["meta"]["chosen"] == OLDER
    assert client.put("/api/v1/models/chosen", json={"id": OLDER}).status_code == 200
    assert f"there are {OLDER}" in problem(client.put("/api/v1/models/chosen", json={"id": "best"}), 404)
    new = make_run(settings, redis, uid="new")
    redis.hset(keys.run("new"), "denoise_state", "waiting")
    new.finish(RunState.INCOMPLETE)
    worker._adopt_orphans()
    turn(worker, lambda: redis.hget(keys.run("new"), "denoise_state") == b"final")
    status = runs.read_status(redis, "new")
    assert status is not None and status.evidence is not None and status.evidence.model == OLDER
    back = client.put("/api/v1/models/chosen", json={"id": ""})
    turn(worker, lambda: follow(client, back)["state"] == "done")
    assert client.get("/api/v1/models").json()["meta"]["chosen"] is None


def test_weights_of_ones_own_can_be_chosen(
    client: TestClient, run: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    settings.weights_dir.mkdir(parents=True)
    for suffix in (".safetensors", ".json"):
        shutil.copy(FOLDER / f"{DEFAULT}{suffix}", settings.weights_dir / f"mine{suffix}")
    worker = DenoiseStage(settings, redis, owner="here")
    asked = client.put("/api/v1/models/chosen", json={"id": "mine"})
    turn(worker, lambda: follow(client, asked)["state"] == "done")
    models = client.get("/api/v1/models").json()
    assert models["meta"]["chosen"] == "mine" and "mine" in {model["id"] for model in models["data"]}
    again = client.post(f"{HERE}/denoise", json={"budget_s": 0})
    turn(worker, lambda: follow(client, again)["state"] == "done")
    status = runs.read_status(redis, "run-1")
    assert status is not None and status.evidence is not None and status.evidence.model == "mine"


def test_weights_that_the_worker_does_not_have_fail_there(
    client: TestClient, run: SyntheticRun, settings: Settings, redis: Connection
) -> None:
    worker = DenoiseStage(settings, redis, owner="here")
    action = actions.submit(redis, ActionKind.DENOISE, "run-1", "somebody", {"weights": "../x"})
    turn(worker, lambda: (actions.read(redis, action.id) or action).settled)
    settled = actions.read(redis, action.id)
    assert settled is not None and settled.state == "failed" and f"there are {OLDER}" in settled.reason


# --- in general -----------------------------------------------------------------------------------------------------


def test_without_redis_nothing_can_be_asked(settings: Settings, run: SyntheticRun, tmp_path: Any) -> None:
    alone = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": f"unix://{tmp_path}/none"})})
    with TestClient(create_app(alone), headers=HEADER) as client:
        for answer in (client.put(f"{HERE}/pin"), client.delete(HERE), client.get("/api/v1/actions/0")):
            assert "Redis" in problem(answer, 503)


def test_an_unknown_action_is_told_so(client: TestClient) -> None:
    assert "after a week" in problem(client.get("/api/v1/actions/0123"), 404)


def test_a_stage_that_restarts_finds_what_it_left_undone(redis: Connection) -> None:
    action = actions.submit(redis, ActionKind.PIN, "run-1", "somebody")
    first = Inbox(redis, "ingest", "here")
    assert [one.id for one in first.read()] == [action.id]
    second = Inbox(redis, "ingest", "here")
    assert [one.id for one in second.read()] == [action.id]
    second.close(action)
    assert redis.xlen(keys.control("ingest")) == 0
    actions.set_state(redis, action, "done")
    assert actions.waiting(redis, "run-1") == []
    assert actions.submit(redis, ActionKind.PIN, "run-1", "somebody").id != action.id
