"""A RunEngine that is paused in the middle of rows, again and again, through the whole installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.plans import make_plan
from quietbeam.core.model.types import RunState
from quietbeam.runengine.publisher import RedisPublisher, zmq_publisher

from .conftest import Installation, assert_counts_equal_truth, wait_until

pytestmark = pytest.mark.system


@pytest.mark.parametrize(("mode", "transport"), [("snake", "zmq"), ("fly", "redis")])
def test_pauses_in_mid_row_lose_nothing(installation: Installation, tmp_path: Path, mode: Any, transport: str) -> None:
    """After each pause the RunEngine goes back to its last checkpoint and counts again from there."""
    settings = installation.settings
    experiment = Experiment(
        ExperimentOptions(
            specimen="cell", lines=("P_Ka", "Fe_Ka"), shape=(12, 15), detectors=3, counts=20.0, dwell_s=0.004, seed=7
        )
    )
    publisher: Any = (
        RedisPublisher(settings.redis_url, spool_dir=tmp_path / "spool")
        if transport == "redis"
        else zmq_publisher(settings.embedded.zmq_in or "")
    )
    engine = RunEngine({}, context_managers=[])
    engine.pause_msg = ""
    engine.record_interruptions = True
    uids: list[str] = []
    pauses = [23, 70, 110]

    def pause(name: str, doc: Any) -> None:
        if name == "start":
            uids.append(doc["uid"])
        frames = doc["seq_num"] if name == "event" else doc["seq_nums"]["stop"] - 1 if name == "stream_datum" else 0
        if pauses and frames >= pauses[0]:
            pauses.pop(0)
            engine.loop.create_task(engine._request_pause_coro(False))

    engine.subscribe(publisher)
    engine.subscribe(pause)
    burst = 7 if mode == "fly" else None
    try:
        with pytest.raises(RunEngineInterrupted):
            engine(make_plan(mode, experiment, speed=0.7, folder=settings.data_dir / "detector", burst=burst))
        while engine.state == "paused":
            wait_until(lambda: installation.status(uids[0]).state is RunState.PAUSED, 30, "the pause to be shown")
            try:
                engine.resume()
            except RunEngineInterrupted:
                continue
    finally:
        publisher.close()
    assert not pauses, "the scan was over before the last pause"
    status = installation.final(uids[0])
    assert status.state is RunState.COMPLETE and not status.warnings
    assert_counts_equal_truth(installation, uids[0], experiment.truth(uids[0]))
