"""Leases with fencing tokens: what a worker does that was stopped beyond its lease, against a real Valkey and zarr."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from worker_kit import SHAPE, Beamline, quick, turn

from quietbeam.core.errors import LeaseLostError, ServiceError
from quietbeam.core.settings import Settings
from quietbeam.core.wire import fence, keys, runs
from quietbeam.denoiser.live.job import DenoiseJob
from quietbeam.denoiser.live.stage import DenoiseStage
from quietbeam.denoiser.live.worker_name import WorkerName


@pytest.fixture
def settings(settings: Settings) -> Settings:
    short = quick(settings)
    return short.model_copy(update={"denoise": short.denoise.model_copy(update={"fine_tune": False})})


def lease(redis, owner: str = "a", **above: int) -> fence.Lease:
    found = fence.acquire(redis, "r", owner, 60_000, **above)
    assert found is not None
    return found


def expire(redis, uid: str = "r") -> None:
    redis.delete(keys.lease(uid))


def test_tokens_grow_with_every_lease(redis) -> None:
    first = lease(redis)
    assert fence.acquire(redis, "r", "b", 60_000) is None, "it is taken"
    assert lease(redis).token == first.token + 1, "the same name, restarted"
    expire(redis)
    second = lease(redis, "b")
    assert second.token == first.token + 2
    fence.release(redis, first)
    assert redis.exists(keys.lease("r")), "a lost lease gives nothing back"
    fence.release(redis, second)
    assert not redis.exists(keys.lease("r"))
    redis.flushall()
    assert lease(redis, token_above=17).token == 18, "the disk remembers when Redis has lost its data"


def test_a_lease_that_ran_out_is_renewed_until_somebody_else_had_one(redis) -> None:
    first = lease(redis)
    expire(redis)
    assert fence.renew(redis, first, 60_000), "nobody came"
    redis.flushall()
    assert fence.renew(redis, first, 60_000), "Redis lost its data"
    expire(redis)
    second = lease(redis, "b")
    assert not fence.renew(redis, first, 60_000)
    fence.release(redis, second)
    assert not fence.renew(redis, first, 60_000), "somebody came and went"


def test_a_smaller_token_is_refused_by_redis(redis) -> None:
    first = lease(redis)
    with fence.fenced(redis, first) as pipe:
        pipe.set("effect", 1)
    expire(redis)
    with pytest.raises(LeaseLostError), fence.fenced(redis, first) as pipe:
        pipe.set("effect", 2)
        lease(redis, "b")  # after the check, before the effect
    with pytest.raises(LeaseLostError), fence.fenced(redis, first) as pipe:
        pipe.set("effect", 3)
    with pytest.raises(LeaseLostError):
        fence.next_version(redis, first)
    assert redis.get("effect") == b"1"


def test_no_version_is_given_twice(redis) -> None:
    first = lease(redis, version_above=4)
    given = [fence.next_version(redis, first) for _ in range(3)]
    expire(redis)
    second = lease(redis, "b")
    given += [fence.next_version(redis, second) for _ in range(2)]
    redis.flushall()
    third = lease(redis, "c", token_above=second.token, version_above=max(given))
    given.append(fence.next_version(redis, third))
    assert given == sorted(set(given)) and given[0] == 5


AT = ("_writer.write", "_announcer.next_version", "_writer.finish_version", "_announcer.maps_written")


@pytest.mark.parametrize("point", AT)
@pytest.mark.parametrize("final", [False, True], ids=["live", "final"])
def test_a_worker_that_was_stopped_changes_nothing(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch, point: str, final: bool
) -> None:
    """The first worker stops right before `point`; the second takes over and finishes; the first goes on."""
    beamline = Beamline(settings, redis)
    first, second = (DenoiseStage(settings, redis, owner=name) for name in ("one", "two"))
    beamline.commit(*range(SHAPE[0]))
    turn(first, lambda: beamline.status().denoise_rows == SHAPE[0])
    (job,) = first._jobs.values()
    if final:
        beamline.stop()
        while not job._state.ended:  # the last maps are next
            job._state.poll()
    part, _, method = point.partition(".")
    real, after = getattr(getattr(job, part), method), []

    def state() -> tuple:
        attributes, status = beamline.buffer.map_attributes(), beamline.status()
        assert attributes["version"] == status.maps_version
        return attributes, status, beamline.buffer.read_map("denoised").tobytes(), redis.xlen(keys.MAPS)

    def stopped(*values, **more):
        if not after:
            beamline.stop()
            expire(redis, "run-1")
            turn(second, lambda: beamline.status().denoise_state == "final")
            after.append(state())
        return real(*values, **more)

    if part == "_announcer" and method == "next_version":
        job._writer._next_version = stopped
    else:
        monkeypatch.setattr(getattr(job, part), method, stopped)
    if not final:
        beamline.commit(3)
        first._pace.served(0.0)  # the row is served before anything else
    turn(first, lambda: bool(after))
    for _ in range(5):
        first.step()
    assert job.lease_lost and state() == after[0]
    assert beamline.buffer.map_attributes()["final"] is True
    assert np.array_equal(beamline.buffer.read_map("raw").any(axis=(0, 2)), np.ones(SHAPE[0], bool))
    assert redis.get(keys.lease("run-1")) is None


def test_a_silent_worker_is_replaced_within_twice_the_lease(settings: Settings, redis) -> None:
    lease_s = settings.denoise.lease.total_seconds()
    silent, busy = Beamline(settings, redis), Beamline(settings, redis, "run-2")
    silent.commit(*range(10))
    first, second = (DenoiseStage(settings, redis, owner=name) for name in ("one", "two"))
    turn(first, lambda: silent.status().denoise_rows == 10)
    busy.commit(*range(SHAPE[0]))
    turn(second, lambda: busy.status().denoise_rows == SHAPE[0])
    fence.renew(redis, next(iter(first._jobs.values())).lease, int(1000 * lease_s))
    began = time.monotonic()
    turn(second, lambda: redis.get(keys.lease("run-1")) == b"two", timeout_s=10 * lease_s)
    assert time.monotonic() - began < 2 * lease_s + 1.0


def test_a_slow_worker_keeps_its_leases_while_it_works_on_many_runs(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long one run takes, no other lease runs out: slow workers would take runs from each other for ever."""
    beamlines = [Beamline(settings, redis, f"run-{n}") for n in range(3)]
    for beamline in beamlines:
        beamline.commit(*range(4))
    stage = DenoiseStage(settings, redis, owner="one")
    held: list[set[str]] = []
    make, process, renew = stage._jobs._make_job, DenoiseJob.process_rows, stage._leases.renew

    def slow_start(buffer, one):
        held.append({uid for uid in stage._jobs if redis.exists(keys.lease(uid))})
        stage._next_renewal = 0.0  # it took a quarter of a lease and more
        redis.delete(*(keys.lease(beamline.uid) for beamline in beamlines if beamline.uid != one.uid))
        return make(buffer, one)

    def slow_rows(job, check):
        stage._next_renewal = 0.0
        before = len(renewed)
        worked = process(job, check)
        assert not worked or len(renewed) > before, "nothing was renewed while rows were denoised"
        return worked

    renewed: list[str] = []
    monkeypatch.setattr(stage._jobs, "_make_job", slow_start)
    monkeypatch.setattr(DenoiseJob, "process_rows", slow_rows)
    monkeypatch.setattr(stage._leases, "renew", lambda one: renewed.append(one.uid) or renew(one))
    turn(stage, lambda: all(beamline.status().denoise_rows == 4 for beamline in beamlines))
    assert [len(leases) for leases in held] == [0, 1, 2], "those taken before were renewed before the next was taken"


def test_a_delete_takes_the_run_from_a_stopped_worker(settings: Settings, redis) -> None:
    beamline = Beamline(settings, redis)
    first = fence.acquire(redis, "run-1", "one", 60_000)
    assert first is not None
    expire(redis, "run-1")
    assert fence.acquire(redis, "run-1", "ingest:delete", 60_000)
    fence.forget(redis, "run-1")
    job = DenoiseJob(beamline.buffer, redis, first, settings.denoise)
    with pytest.raises(LeaseLostError):
        job.fall_back("no reason")
    assert not runs.read_status(redis, "run-1").denoise_reason
    assert redis.ttl(keys.fence("run-1")) > 0


def test_two_workers_never_have_one_name(redis, tmp_path: Path) -> None:
    lifetime = timedelta(seconds=5)

    def name() -> WorkerName:
        return WorkerName(redis, tmp_path, lifetime)

    first, second, third = name(), name(), name()
    first.claim("gpu:0")
    with pytest.raises(ServiceError, match="'gpu:0' runs already"):
        second.claim("gpu:0")
    second.claim_free("gpu:0")
    assert (first.text, second.text) == ("gpu:0", "gpu:0-2")
    first.release()
    third.claim("gpu:0")
    assert redis.pttl(keys.worker("gpu:0")) > 0

    other_machine = WorkerName(redis, tmp_path / "its-own-disk", lifetime)
    (tmp_path / "its-own-disk").mkdir()
    other_machine._host = "elsewhere"
    with pytest.raises(ServiceError, match="runs already"):
        other_machine.claim("gpu:0")
    redis.delete(keys.worker("gpu:0"))  # the first machine lost its power, and the key expired
    other_machine.claim("gpu:0")


def test_a_killed_worker_has_its_name_back_at_once(redis, tmp_path: Path) -> None:
    first = WorkerName(redis, tmp_path, timedelta(seconds=60))
    first.claim("w")
    assert first._lock is not None
    first._lock.release()  # as the kernel does
    again = WorkerName(redis, tmp_path, timedelta(seconds=60))
    again.claim("w")
    assert again.text == "w"
