"""The denoise stage against a real Valkey and real buffers, turned by hand."""

from __future__ import annotations

import copy
import errno
import time

import numpy as np
import pytest
import torch
from redis import OutOfMemoryError
from worker_kit import DETECTORS, LINES, SHAPE, Beamline, quick, specimen, turn

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RowBlock, RunState
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire import fence, keys, metrics, runs
from quietbeam.denoiser.estimators.networks import pretrained
from quietbeam.denoiser.live.job import DenoiseJob
from quietbeam.denoiser.live.stage import DenoiseStage
from quietbeam.denoiser.options import SessionOptions
from quietbeam.denoiser.session import CARRIED, DenoiseSession


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return quick(settings)


def test_rows_become_maps_while_the_run_goes_on(settings: Settings, redis) -> None:
    beamline = Beamline(settings, redis)
    stage = DenoiseStage(settings, redis, owner="here")
    beamline.commit(0)
    turn(stage, lambda: beamline.status().denoise_rows == 1)
    raw = beamline.buffer.read_map("raw")
    assert np.allclose(raw[:, 0].sum(), beamline.counts[:, :, 0].sum(), rtol=0.2), "raw is there from the first row"
    assert not raw[:, 1:].any()

    beamline.commit(*range(1, 12))
    turn(stage, lambda: beamline.status().evidence is not None and beamline.status().denoise_rows == 12)
    status = beamline.status()
    assert status.denoise_state == "live" and not status.evidence.final
    assert [line.line for line in status.evidence.lines] == list(LINES)

    beamline.commit(*range(12, SHAPE[0]))
    beamline.stop()
    turn(stage, lambda: beamline.status().denoise_state == "final")
    final = beamline.status()
    assert final.denoise_rows == SHAPE[0] and final.evidence.final and final.evidence.fine_tune_steps > 0
    assert beamline.buffer.map_attributes()["final"] is True
    assert beamline.buffer.evidence() == final.evidence
    denoised, raw = beamline.buffer.read_map("denoised"), beamline.buffer.read_map("raw")
    assert np.isfinite(denoised).all() and (denoised >= 0).all()
    assert np.allclose(denoised.sum((1, 2)), raw.sum((1, 2)), rtol=0.05)
    assert redis.get(keys.lease("run-1")) is None, "the lease is given back"


def test_a_row_that_is_served_while_the_map_is_computed_keeps_its_newer_map(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quietbeam.denoiser.cooperative.INTERVAL_S", 0.0)
    beamline = Beamline(settings, redis)
    late = 12
    beamline.commit(*(row for row in range(SHAPE[0]) if row != late))
    lease = fence.acquire(redis, "run-1", "here", 10_000)
    assert lease is not None
    run = DenoiseJob(beamline.buffer, redis, lease, settings.denoise)
    assert run.process_rows() and not beamline.buffer.read_map("raw")[:, late].any()
    assert run.learn(lambda: False, lambda: None), "the evaluation, after which the map is made anew"
    served = []

    def serve() -> None:
        if not served:
            beamline.commit(late)
            run.add_pending([late])
            served.append(run.process_rows())

    assert run.learn(lambda: False, serve) and served == [True]
    for kind in ("raw", "denoised"):
        assert (beamline.buffer.read_map(kind).sum(-1) > 0).all(), "the older band must not cover the row"


def test_rows_that_come_again_are_judged_again(settings: Settings, redis) -> None:
    """Passes over the same pixels: more counts in the same rows, also when the time for fine-tuning is spent."""
    still = settings.denoise.model_copy(update={"fine_tune": False})
    beamline = Beamline(settings, redis)
    stage = DenoiseStage(settings.model_copy(update={"denoise": still}), redis, owner="here")

    def mean_counts() -> float:
        evidence = beamline.status().evidence
        return evidence.lines[0].mean_counts if evidence is not None else 0.0

    rows = range(SHAPE[0])
    beamline.commit(*rows)
    turn(stage, lambda: beamline.status().denoise_rows == SHAPE[0] and mean_counts() > 0)
    once = mean_counts()
    beamline.counts = beamline.counts + specimen(1)
    beamline.commit(*rows)
    turn(stage, lambda: mean_counts() > 1.8 * once)


def test_a_worker_that_died_is_replaced_by_one_of_its_name(settings: Settings, redis) -> None:
    beamline = Beamline(settings, redis)
    beamline.commit(*range(10))
    first = DenoiseStage(settings, redis, owner="here")
    turn(first, lambda: beamline.status().denoise_rows == 10)
    del first
    beamline.commit(*range(10, SHAPE[0]))
    beamline.stop()
    second = DenoiseStage(settings, redis, owner="here")
    turn(second, lambda: beamline.status().denoise_state == "final")
    assert beamline.status().denoise_rows == SHAPE[0]


def test_a_leased_run_is_left_alone_until_the_lease_runs_out(settings: Settings, redis) -> None:
    beamline = Beamline(settings, redis)
    beamline.commit(*range(8))
    first = DenoiseStage(settings, redis, owner="one")
    turn(first, lambda: beamline.status().denoise_rows == 8)
    second = DenoiseStage(settings, redis, owner="two")
    beamline.commit(8)
    second.step()
    assert beamline.status().denoise_rows == 8, "not its run"
    redis.pexpire(keys.lease("run-1"), 1)
    del first
    deadline = time.monotonic() + 10
    while redis.get(keys.lease("run-1")) is not None:
        assert time.monotonic() < deadline
    beamline.commit(9)
    turn(second, lambda: beamline.status().denoise_rows == 10)


def test_a_run_too_large_for_memory_is_published_raw(settings: Settings, redis) -> None:
    small = settings.model_copy(update={"denoise": settings.denoise.model_copy(update={"max_live_bytes": 1000})})
    beamline = Beamline(small, redis)
    stage = DenoiseStage(small, redis, owner="here")
    beamline.commit(*range(SHAPE[0]))
    beamline.stop()
    turn(stage, lambda: beamline.status().denoise_state == "final")
    assert "max_live_bytes" in beamline.status().denoise_reason
    assert np.array_equal(beamline.buffer.read_map("denoised"), beamline.counts.sum(0))


def test_many_detectors_are_summed_in_groups_and_denoised(settings: Settings, redis) -> None:
    limit = 4 * 24 * len(LINES) * SHAPE[0] * SHAPE[1] - 1  # 24 detectors are a little too many
    small = settings.model_copy(update={"denoise": settings.denoise.model_copy(update={"max_live_bytes": limit})})
    beamline = Beamline(small, redis, detectors=tuple(f"det{k}" for k in range(24)))
    beamline.counts = np.concatenate([specimen(seed) for seed in range(6)])
    stage = DenoiseStage(small, redis, owner="here")
    beamline.commit(*range(SHAPE[0]))
    beamline.stop()
    turn(stage, lambda: beamline.status().denoise_state == "final")
    evidence = beamline.status().evidence
    assert evidence is not None and not beamline.status().denoise_reason
    assert any("24 detectors are summed in 2 groups" in note for note in evidence.notes)
    assert evidence.lines[0].improved
    assert np.array_equal(beamline.buffer.read_map("raw"), beamline.counts.sum(0))


def test_a_broken_denoiser_costs_neither_the_raw_map_nor_other_runs(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quietbeam.denoiser.session import DenoiseSession

    working = DenoiseSession.infer

    def infer(self, rows=None, yield_callback=None):
        if len(self.data.lines) == 2:
            raise FloatingPointError("loss is not finite")
        return working(self, rows)

    monkeypatch.setattr(DenoiseSession, "infer", infer)
    broken = Beamline(settings, redis, "broken", lines=("Ca_Ka", "Fe_Ka"))
    broken.counts = broken.counts[:, :2]
    sound = Beamline(settings, redis, "sound")
    stage = DenoiseStage(settings, redis, owner="here")
    for beamline in (broken, sound):
        beamline.commit(*range(SHAPE[0]))
        beamline.stop()
    turn(stage, lambda: all(b.status().denoise_state in ("final", "failed") for b in (broken, sound)))
    turn(stage, lambda: broken.buffer.read_map("denoised").any() and sound.status().denoise_state == "final")
    turn(stage, lambda: redis.get(keys.lease("broken")) is None)
    status = broken.status()
    assert status.denoise_state == "failed", "no final map is announced as denoised"
    assert "could not be denoised" in status.denoise_reason and "loss is not finite" in status.denoise_reason
    assert status.denoise_failure == status.denoise_reason in status.all_warnings
    assert status.denoise_reason in stage.trouble()
    assert metrics.read(redis)["quietbeam_denoise_failures_total"] >= 1
    assert np.array_equal(broken.buffer.read_map("denoised"), broken.counts.sum(0))
    assert sound.status().evidence is not None

    version = status.maps_version
    for _ in range(3):
        stage.step()
    assert broken.status().maps_version == version, "it is not tried again at once"
    monkeypatch.setattr(DenoiseSession, "infer", working)
    later = DenoiseStage(settings, redis, owner="there")
    turn(later, lambda: broken.status().denoise_state == "final")
    status = broken.status()
    assert status.evidence is not None and not status.denoise_failure and not status.denoise_reason
    assert not later.trouble() and broken.buffer.map_attributes()["failure"] == ""


def test_a_live_run_is_tried_again_after_a_pause(settings: Settings, redis, monkeypatch: pytest.MonkeyPatch) -> None:
    from quietbeam.denoiser.session import DenoiseSession

    monkeypatch.setattr("quietbeam.denoiser.live.failures._FIRST_S", 1.0)
    working, fails = DenoiseSession.infer, True

    def infer(self, rows=None, yield_callback=None):
        if fails:
            raise RuntimeError("CUDA out of memory")
        return working(self, rows, yield_callback)

    monkeypatch.setattr(DenoiseSession, "infer", infer)
    beamline, stage = Beamline(settings, redis), DenoiseStage(settings, redis, owner="here")
    beamline.commit(*range(8))
    turn(stage, lambda: beamline.status().denoise_rows == 8)
    status = beamline.status()
    assert status.denoise_state == "failed" and "too little memory" in status.denoise_failure
    fails = False
    turn(stage, lambda: beamline.status().denoise_state == "live")
    assert not beamline.status().denoise_failure and not stage.trouble()


def test_a_run_whose_job_cannot_begin_costs_no_other_run(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quietbeam.denoiser.live.map_rows import MapRows

    working = MapRows.__init__

    def init(self, buffer):
        if buffer.info.uid == "broken":
            raise OSError(errno.ENOTRECOVERABLE, "state not recoverable")
        working(self, buffer)

    monkeypatch.setattr(MapRows, "__init__", init)
    broken, sound = Beamline(settings, redis, "broken"), Beamline(settings, redis, "sound")
    stage = DenoiseStage(settings, redis, owner="here")
    for beamline in (broken, sound):
        beamline.commit(*range(SHAPE[0]))
        beamline.stop()
    turn(stage, lambda: sound.status().denoise_state == "final")
    assert broken.status().denoise_state == "failed" and redis.get(keys.lease("broken")) is None
    assert "broken" in stage.trouble()
    (broken.buffer.path / "zarr.json").unlink()
    turn(stage, lambda: not stage.trouble(), timeout_s=20)
    assert "a file could not be read or written" in broken.status().denoise_failure


def test_a_row_after_the_end_opens_the_run_again(settings: Settings, redis) -> None:
    beamline = Beamline(settings, redis)
    stage = DenoiseStage(settings, redis, owner="here")
    beamline.commit(*range(SHAPE[0] - 1))
    beamline.stop()
    turn(stage, lambda: beamline.status().denoise_state == "final")
    beamline.commit(SHAPE[0] - 1)
    turn(stage, lambda: beamline.status().denoise_rows == SHAPE[0] and beamline.status().denoise_state == "final")


def test_after_redis_lost_everything_the_maps_go_on(settings: Settings, redis) -> None:
    beamline = Beamline(settings, redis)
    stage = DenoiseStage(settings, redis, owner="here")
    beamline.commit(*range(8))
    turn(stage, lambda: beamline.status().denoise_rows == 8)
    redis.flushall()
    runs.register_run(redis, "run-1", 0.0)
    runs.write_status(redis, "run-1", info=beamline.info, state=RunState.RUNNING)
    beamline.buffer.write_row(8, RowBlock(counts=beamline.counts[:, :, 8], measured=np.ones(SHAPE[1], bool)))
    stage.recover()
    turn(stage, lambda: beamline.status().denoise_rows == 9)


def test_a_full_redis_is_waited_out(settings: Settings, valkey_process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run keeps its denoiser, and a worker that starts while Redis is full does not die of it."""
    from quietbeam.core.wire.bus import connect

    redis = connect(valkey_process.url)
    beamline = Beamline(settings, redis)
    stage = DenoiseStage(settings, redis, owner="here")
    beamline.commit(*range(8))
    turn(stage, lambda: beamline.status().denoise_rows == 8)
    beamline.commit(*range(8, SHAPE[0]))
    beamline.stop()
    redis.config_set("maxmemory", "1")
    for _ in range(3):
        with pytest.raises(OutOfMemoryError):  # run_stage waits, and tries again like this
            stage.step()
        stage.recover()
    stage.close()
    stage = DenoiseStage(settings, redis, owner="here")
    with pytest.raises(OutOfMemoryError):
        stage.step()
    redis.config_set("maxmemory", "0")
    stage.recover()
    turn(stage, lambda: beamline.status().denoise_state == "final")
    assert beamline.status().denoise_reason == "" and beamline.status().denoise_rows == SHAPE[0]
    assert beamline.status().evidence is not None


def test_a_device_that_is_not_there_is_refused_at_once(settings: Settings, redis) -> None:
    elsewhere = settings.model_copy(update={"denoise": settings.denoise.model_copy(update={"device": "meta"})})
    with pytest.raises(InputError, match="not available here"):
        DenoiseStage(elsewhere, redis, owner="here")


def test_wake_ups_of_no_run_are_passed_over(settings: Settings, redis) -> None:
    beamline = Beamline(settings, redis)
    stage = DenoiseStage(settings, redis, owner="here")
    stage.step()
    for fields in ({"junk": "1"}, {"run": "../../etc", "row": "1"}, {"run": "unknown", "row": "-1"}, {"run": b"\xff"}):
        redis.xadd(keys.ROWS, fields)
    redis.xadd(keys.ROWS, {"run": beamline.uid, "row": SHAPE[0] + 7})
    beamline.commit(*range(8))
    turn(stage, lambda: beamline.status().denoise_rows == 8)


@pytest.mark.supports("geometry", "stacks: each map starts with the weights of the map before")
def test_the_maps_of_a_stack_hand_their_weights_on(settings: Settings, redis) -> None:
    stage = DenoiseStage(settings, redis, owner="w1")
    steps = []
    for number in range(2):
        place = {"stack": {"run": "stack-1", "map": number, "maps": 2}}
        beamline = Beamline(settings, redis, uid=f"stack-1-{number:04d}", metadata=place)
        beamline.commit(*range(SHAPE[0]))
        if number:
            turn(stage, lambda b=beamline: b.status().evidence is not None)
        beamline.stop()
        turn(stage, lambda b=beamline: b.status().denoise_state == "final")
        evidence = beamline.status().evidence
        assert evidence is not None
        steps.append(evidence.fine_tune_steps)
        assert (CARRIED in evidence.notes) == (number == 1)
    assert steps[0] > 0
    other = Beamline(settings, redis, uid="alone")
    other.commit(*range(SHAPE[0]))
    other.stop()
    turn(stage, lambda: other.status().denoise_state == "final")
    evidence = other.status().evidence
    assert evidence is not None and CARRIED not in evidence.notes


def test_weights_of_a_stack_are_a_start_and_no_more() -> None:
    """What was carried over is judged on the photons of the new map: broken weights are never published."""
    counts = specimen()
    broken = copy.deepcopy(pretrained("").network)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.normal_()
    options = SessionOptions(threads=1)
    session = DenoiseSession(lines=LINES, detectors=DETECTORS, shape=SHAPE, options=options, start=broken)
    session.add_rows(0, counts, np.ones(SHAPE, bool))
    evidence = session.evaluate()
    assert CARRIED in evidence.notes and all(line.estimator != "fine_tuned" for line in evidence.lines)
    assert session.learned is not None


@pytest.mark.parametrize("computes", ["rows", "evaluation"])
def test_a_stop_ends_what_is_computed_and_gives_the_lease_back(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch, computes: str
) -> None:
    monkeypatch.setattr("quietbeam.denoiser.cooperative.INTERVAL_S", 0.0)
    beamline, stop = Beamline(settings, redis), StopRequest()
    stage = DenoiseStage(settings, redis, owner="here", stop=stop)
    beamline.commit(*range(SHAPE[0]))
    if computes == "evaluation":
        turn(stage, lambda: beamline.status().maps_version == 1 or stage.step())
    inside = []
    real = StopRequest.check

    def check(request: StopRequest) -> None:
        inside.append(1)
        if len(inside) == 3:  # between two convolutions
            stop.set()
        real(request)

    monkeypatch.setattr(StopRequest, "check", check)
    before = beamline.buffer.map_attributes()
    turn(stage, stop.is_set)
    assert len(inside) == 3 and beamline.buffer.map_attributes() == before, "nothing was written any more"
    stage.close()
    assert redis.get(keys.lease("run-1")) is None
    after = DenoiseStage(settings, redis, owner="another")
    beamline.stop()
    turn(after, lambda: beamline.status().denoise_state == "final")
