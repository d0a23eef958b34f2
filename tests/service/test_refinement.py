"""Final maps come first; they are refined when no run is live."""

from __future__ import annotations

import errno
import os
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from worker_kit import SHAPE, Beamline, turn

from quietbeam.buffer.map_folders import MapFolders
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, metrics
from quietbeam.denoiser.live import refinement
from quietbeam.denoiser.live.stage import DenoiseStage


@pytest.fixture
def settings(settings: Settings) -> Settings:
    denoise = settings.denoise.model_copy(
        update={
            "device": "cpu",
            "final_budget": timedelta(seconds=3.1),  # too long to be spent before the final maps
            "live_budget": timedelta(0),
            "evaluate_every": timedelta(seconds=0.2),
        }
    )
    return settings.model_copy(update={"denoise": denoise})


def finished(settings: Settings, redis, uid: str = "run-1") -> tuple[Beamline, DenoiseStage]:
    beamline, stage = Beamline(settings, redis, uid), DenoiseStage(settings, redis, owner="here")
    beamline.commit(*range(SHAPE[0]))
    beamline.stop()
    turn(stage, lambda: beamline.status().denoise_state == "final")
    return beamline, stage


def refined(beamline: Beamline) -> bool:
    evidence = beamline.status().evidence
    return evidence is not None and evidence.refined


def test_final_maps_come_first_and_refined_ones_as_a_newer_version(settings: Settings, redis) -> None:
    beamline, stage = finished(settings, redis)
    final = beamline.status()
    assert final.evidence is not None and final.evidence.final and not final.evidence.refined
    assert final.evidence.rows == final.denoise_rows == SHAPE[0] and final.evidence.fine_tune_steps == 0
    assert redis.zrange(keys.REFINE, 0, -1) == [b"run-1"]

    turn(stage, lambda: refined(beamline))
    status, attributes = beamline.status(), beamline.buffer.map_attributes()
    assert status.denoise_state == "final" and status.evidence.final
    assert status.evidence.fine_tune_steps > 0
    assert status.maps_version == attributes["version"] == final.maps_version + 1
    assert beamline.buffer.evidence() == status.evidence
    raw, denoised = beamline.buffer.read_map("raw"), beamline.buffer.read_map("denoised")
    assert np.allclose(denoised.sum((1, 2)), raw.sum((1, 2)), rtol=0.05)
    assert redis.zcard(keys.REFINE) == 0 and redis.get(keys.lease("run-1")) is None
    newest = redis.xrevrange(keys.MAPS, count=2)
    assert [fields[b"final"] for _, fields in newest] == [b"1", b"1"], "whoever shows final maps is told of both"
    assert metrics.read(redis)["quietbeam_runs_to_refine"] in (0, 1)


def test_a_live_run_ends_a_refinement_which_begins_anew_later(settings: Settings, redis) -> None:
    beamline, stage = finished(settings, redis)
    other = Beamline(settings, redis, "run-2")
    begins = threading.Timer(1.5, lambda: other.commit(*range(8)))
    begins.start()
    turn(stage, lambda: other.status().denoise_rows == 8, timeout_s=30)
    begins.join()
    assert not refined(beamline) and redis.zrange(keys.REFINE, 0, -1) == [b"run-1"]
    assert redis.get(keys.lease("run-1")) is None, "another worker may take it"

    other.commit(*range(8, SHAPE[0]))
    other.stop()
    turn(stage, lambda: refined(beamline) and refined(other), timeout_s=120)
    assert redis.zcard(keys.REFINE) == 0


def test_maps_stay_when_held_out_counts_do_not_say_that_refined_ones_are_better(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "improvement", lambda *_: 0.0)
    beamline, stage = finished(settings, redis)
    final, maps = beamline.status(), beamline.buffer.read_map("denoised")
    turn(stage, lambda: refined(beamline))
    status = beamline.status()
    np.testing.assert_array_equal(beamline.buffer.read_map("denoised"), maps)
    assert refinement.NOT_BETTER in status.evidence.notes
    assert status.evidence.lines == final.evidence.lines and status.maps_version == final.maps_version + 1


def test_what_was_deleted_or_is_denoised_again_is_not_refined(settings: Settings, redis) -> None:
    settings.runs_dir.mkdir(parents=True, exist_ok=True)
    stage = DenoiseStage(settings, redis, owner="here")
    redis.zadd(keys.REFINE, {"gone": time.time()})
    turn(stage, lambda: redis.zcard(keys.REFINE) == 0, timeout_s=10)


def test_an_error_in_a_refinement_costs_the_refinement_alone(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    beamline, stage = finished(settings, redis)
    final = beamline.status()

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    working = refinement.DenoiseSession.finalize
    monkeypatch.setattr(refinement.DenoiseSession, "finalize", fails)
    turn(stage, lambda: bool(beamline.status().denoise_failure))
    status = beamline.status()
    assert "could not be refined" in status.denoise_failure and "little memory" in status.denoise_failure
    assert status.denoise_unrefined == status.denoise_failure == stage.trouble()
    assert replace(status, denoise_failure="", denoise_unrefined="") == final
    assert redis.zcard(keys.REFINE) == 1 and redis.get(keys.lease("run-1")) is None

    monkeypatch.setattr(refinement.DenoiseSession, "finalize", working)
    assert not stage.step(), "there is a pause first"
    later = DenoiseStage(settings, redis, owner="here")
    turn(later, lambda: refined(beamline))
    assert not beamline.status().denoise_failure and not beamline.status().denoise_unrefined


def test_a_folder_that_cannot_be_written_delays_no_other_refinement(
    settings: Settings, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, stage = finished(settings, redis, "other")
    locked, stage = finished(settings, redis, "locked")
    real = MapFolders.to_write

    def to_write(folders: MapFolders) -> Path:
        if folders._run.name == "locked":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(folders._run))
        return real(folders)

    monkeypatch.setattr(MapFolders, "to_write", to_write)
    assert redis.zrange(keys.REFINE, 0, -1, desc=True) == [b"locked", b"other"], "the newest has the first turn"
    turn(stage, lambda: refined(other))
    assert not refined(locked) and redis.zrange(keys.REFINE, 0, -1) == [b"locked"]
    assert f"Cannot write to {locked.buffer.path}: operation not permitted" in stage.trouble()
    monkeypatch.setattr(MapFolders, "to_write", real)
    turn(stage, lambda: refined(locked))
    assert not stage.trouble()


def test_a_request_of_another_worker_ends_a_refinement(settings: Settings, redis) -> None:
    beamline, stage = finished(settings, redis)
    asked = threading.Timer(1.0, lambda: redis.hset(keys.run("run-1"), "denoise_request", "of-another"))
    asked.start()
    version = beamline.status().maps_version
    for _ in range(3):
        stage.step()
    asked.join()
    turn(stage, lambda: beamline.status().maps_version > version, timeout_s=90)
    turn(stage, lambda: not redis.hexists(keys.run("run-1"), "denoise_request"))
    turn(stage, lambda: refined(beamline))
