"""A damaged run costs no other run anything: ingest starts, the list answers, publishing goes on, doctor repairs."""

from __future__ import annotations

import errno
import os
import time

import httpx
import pytest
from damage_kit import DAMAGE, damaged_runs
from ingest_kit import Pipe, Scan, same
from publish_kit import Run
from serve_kit import KEY, served, with_serve

from quietbeam.app.damaged_runs import examine_runs
from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import RedisSettings, Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.denoiser.live.stage import DenoiseStage


@pytest.fixture
def damaged(settings: Settings, redis: Connection) -> list[Run]:
    return damaged_runs(settings, redis)


def listed(settings: Settings) -> dict[str, str]:
    """The damage of each run in the list."""
    with served(with_serve(settings)) as place:
        return _list(place)


def _list(place: str) -> dict[str, str]:
    answer = httpx.get(f"http://{place}/api/v1/runs", headers={"Authorization": f"Apikey {KEY}"})
    return {row["id"]: row["attributes"]["damage"] for row in answer.raise_for_status().json()["data"]}


@pytest.mark.parametrize("redis_lost", [False, True], ids=["redis kept", "redis lost"])
def test_ingest_starts_the_list_answers_and_the_next_scan_is_measured(
    settings: Settings, redis: Connection, damaged: list[Run], redis_lost: bool
) -> None:
    if redis_lost:
        redis.flushall()
    scan = Scan()
    pipe = Pipe(settings, redis)
    pipe.send(scan.docs())
    pipe.drain()
    same(pipe, scan)
    assert pipe.state(scan.uid) is RunState.COMPLETE
    if redis_lost:
        for name in ("torn-mark", "garbage", "a-folder", "a-number", "unknown-state"):
            status = pipe.status(name)
            assert status.state is RunState.UNUSABLE and name in status.damage and "doctor --repair" in status.damage
        assert pipe.status("sound").denoise_state == "final", "final maps are not made again"
    damages = listed(settings)
    assert set(damages) == {*DAMAGE, "sound", scan.uid}
    assert not damages["sound"] and not damages[scan.uid]


def test_the_list_names_damage_before_anybody_reads_the_run(
    settings: Settings, redis: Connection, damaged: list[Run]
) -> None:
    with served(with_serve(settings)) as place:
        deadline = time.monotonic() + 20
        while len(found := {uid for uid, damage in _list(place).items() if damage}) < len(DAMAGE):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
    assert found == set(DAMAGE), "the sound run is not damaged"


def test_an_entry_of_redis_that_cannot_be_read_costs_its_run_alone(settings: Settings, redis: Connection) -> None:
    for name in ("sound", "odd"):
        Run(settings, redis, name).finish(wake=False)
    redis.hset(keys.run("odd"), mapping={"state": "zzz", "info": "5", "evidence": b"\xff", "rows_measured": "many"})
    status = runs.read_status(redis, "odd")
    assert status is not None and status.state is RunState.UNUSABLE
    assert all(name in status.damage for name in ("state", "info", "evidence", "rows_measured"))
    damages = listed(settings)
    assert damages["odd"] and not damages["sound"]


def test_the_worker_leaves_a_damaged_run_and_denoises_the_others(
    settings: Settings, redis: Connection, damaged: list[Run]
) -> None:
    for run in damaged:
        runs.write_status(redis, run.info.uid, denoise_state="waiting")
    short = settings.denoise.model_copy(update={"device": "cpu", "fine_tune": False})
    stage = DenoiseStage(settings.model_copy(update={"denoise": short}), redis, owner="w")
    limit = time.monotonic() + 60
    while damaged[-1].status().denoise_state != "final":
        assert time.monotonic() < limit
        stage.step()
    told = {run.info.uid: run.status() for run in damaged}
    assert told["torn-mark"].damage and told["torn-mark"].denoise_state == "failed"
    assert not redis.exists(keys.lease("torn-mark"))
    stage.close()


def test_doctor_names_and_repairs(settings: Settings, redis: Connection, damaged: list[Run]) -> None:
    settings = settings.model_copy(update={"redis": RedisSettings(url=_url_of(redis))})
    named = [finding for finding in examine_runs(settings, repair=False) if finding.verdict == "failure"]
    assert {name for name in DAMAGE if any(name in finding.found for finding in named)} == set(DAMAGE)
    before = {run.info.uid: run.status().maps_version for run in damaged}
    repaired = list(examine_runs(settings, repair=True))
    assert len(repaired) == len(DAMAGE) + 1 and all(finding.verdict != "failure" for finding in repaired), repaired
    assert repaired[-1].found == f"{len(DAMAGE) + 1} of {len(DAMAGE) + 1} runs can be read", "repaired ones, too"
    assert [finding.verdict for finding in examine_runs(settings, repair=False)] == ["ok"]
    for run in damaged:
        status = run.status()
        assert not status.damage and status.state is RunState.COMPLETE, run.info.uid
        assert RunBuffer.open(settings.runs_dir, run.info.uid).measured().all(), "every count is there"
    for name in ("torn-map", "empty-map"):
        status = runs.read_status(redis, name)
        assert status is not None and status.denoise_state == "waiting" and status.publish_state == "waiting"
        version = RunBuffer.open(settings.runs_dir, name).map_attributes()["version"]
        assert version > before[name], "no version is used twice"


def test_doctor_says_what_is_beyond_repair(settings: Settings, redis: Connection) -> None:
    settings = settings.model_copy(update={"redis": RedisSettings(url=_url_of(redis))})
    for uid in ("lost", "locked", "sound"):
        Run(settings, redis, uid).finish(wake=False)
    for name in ("zarr.json", "info.json"):
        (settings.runs_dir / "lost" / name).write_text("{")
    (settings.runs_dir / "locked/zarr.json").write_text("{")
    named = {f.found.split()[1]: f for f in examine_runs(settings, repair=False) if f.verdict == "failure"}
    assert "doctor --repair" in named["lost"].remedy, "Redis knows still what it is"
    redis.delete(keys.run("lost"))
    wanted = f"a repair is not possible: restore {settings.runs_dir / 'lost/zarr.json'} from a backup"

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.MonkeyPatch.context() as patch:
        for repair in (False, True):
            patch.setattr("quietbeam.buffer.repair._replace", locked)
            *bad, last = examine_runs(settings, repair=repair)
            found = {f.found.split()[1]: f for f in bad}
            assert found["lost"].verdict == "failure" and found["lost"].remedy.startswith(wanted)
            assert last.found == "1 of 3 runs can be read"
    assert "could not be repaired" in found["locked"].found and "permission denied" in found["locked"].found


def _url_of(redis: Connection) -> str:
    return f"unix://{redis.connection_pool.connection_kwargs['path']}"


def test_a_repair_without_redis_is_shown_when_ingest_starts(
    settings: Settings, redis: Connection, damaged: list[Run]
) -> None:
    assert damaged[-1].status().denoise_state == "final"
    away = settings.model_copy(update={"redis": RedisSettings(url="unix:///nowhere/redis.sock")})
    assert all(finding.verdict != "failure" for finding in examine_runs(away, repair=True))
    Pipe(settings, redis).die()
    status = runs.read_status(redis, "torn-map")
    assert status is not None and status.denoise_state == "waiting"


def test_documents_of_a_damaged_run_mend_it(settings: Settings, redis: Connection) -> None:
    scan = Scan()
    docs = scan.docs()
    pipe = Pipe(settings, redis)
    pipe.send(docs[:15])
    pipe.until(lambda: not pipe.stage.step() and pipe.source.unacknowledged == 3)  # type: ignore[attr-defined]
    pipe.die()
    (pipe.buffer(scan.uid).path / "zarr.json").write_text("")
    again = pipe.again()
    again.send(docs[15:])
    again.drain()
    same(again, scan)
    assert again.state(scan.uid) is RunState.COMPLETE
    assert any("repaired" in warning for warning in again.status(scan.uid).warnings)
