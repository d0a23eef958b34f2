"""What tests of the denoise stage share: a beamline that commits rows, and settings with short times."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import RowBlock, RunInfo, RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.denoiser.live.stage import DenoiseStage

LINES, DETECTORS, SHAPE = ("Ca_Ka", "Fe_Ka", "Zn_Ka"), ("det1", "det2", "det3", "det4"), (24, 32)


def quick(settings: Settings) -> Settings:
    """Return settings with short budgets and a short lease."""
    denoise = settings.denoise.model_copy(
        update={
            "device": "cpu",
            "refine": False,
            "final_budget": timedelta(seconds=2),
            "live_budget": timedelta(seconds=1),
            "burst": timedelta(seconds=0.5),
            "evaluate_every": timedelta(seconds=0.2),
            "lease": timedelta(seconds=2),
        }
    )
    return settings.model_copy(update={"denoise": denoise})


def specimen(seed: int = 0) -> np.ndarray:
    """Draw counts (detector, line, row, col): a disc in two lines, nothing but background in the third."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = ((y - 12) ** 2 + (x - 15) ** 2 < 64).astype(float)
    rate = np.stack([2 + 8 * disc, 1 + 4 * disc, np.full(SHAPE, 0.5)])
    return rng.poisson(rate[None] * np.array([0.7, 1.0, 1.1, 1.3])[:, None, None, None] / 4).astype(np.uint32)


class Beamline:
    """Plays ingest's part: commits rows and says so."""

    def __init__(self, settings: Settings, redis, uid: str = "run-1", **info) -> None:
        self.uid, self.redis, self.counts = uid, redis, specimen()
        self.info = RunInfo(
            uid=uid, **{"lines": LINES, "detectors": DETECTORS, "shape": SHAPE, "time_start": time.time(), **info}
        )
        self.buffer = RunBuffer.create(settings.runs_dir, self.info)
        runs.register_run(redis, uid, self.info.time_start)
        runs.write_status(redis, uid, info=self.info, state=RunState.RUNNING)

    def commit(self, *rows: int) -> None:
        for row in rows:
            self.buffer.write_row(row, RowBlock(counts=self.counts[:, :, row], measured=np.ones(SHAPE[1], bool)))
            self.redis.xadd(keys.ROWS, {"run": self.uid, "row": row, "at": time.time()})

    def stop(self) -> None:
        runs.write_status(self.redis, self.uid, state=RunState.COMPLETE)

    def status(self) -> runs.RunStatus:
        status = runs.read_status(self.redis, self.uid)
        assert status is not None
        return status


def turn(stage: DenoiseStage, until: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, "the stage did not get there"
        stage.step()
