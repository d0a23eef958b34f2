"""Scans with a RunEngine in this process: announced, repeated, aborted by a signal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import typer

from quietbeam.core.process.stop import StopRequest

from .options import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from pathlib import Path

    from quietbeam.beamline.experiment import Experiment

_POLL_S = 0.1


def make_engine(experiment: Experiment, publish: Callable[[str, Any], Any], truth: Path | None) -> Any:
    """Return a RunEngine that sends its documents, prints each run and saves its truth, and leaves signals alone."""
    from bluesky import RunEngine

    # bluesky's own handler sets a threading.Event, which takes a lock that the interrupted code may hold.
    engine = RunEngine({}, context_managers=[])
    engine.pause_msg = ""
    engine.log.logger.setLevel("CRITICAL")  # an interruption is no traceback
    engine.subscribe(publish)
    engine.subscribe(_announcing(experiment, truth))
    return engine


def run_scans(
    engine: Any, experiment: Experiment, make_plan: Callable[[], Any], *, repeat: int, stop: StopRequest
) -> None:
    """Run the plan `repeat` times (0: until interrupted); a stop aborts the run at its next checkpoint.

    Raises
    ------
    typer.Exit
        With EXIT_INTERRUPTED, when a stop was requested.
    """
    from bluesky.utils import RunEngineInterrupted

    for _ in range(repeat) if repeat else count():
        if stop.is_set():
            break
        experiment.start_over()
        with _pausing(engine, stop):
            try:
                engine(make_plan())
            except RunEngineInterrupted:
                if engine.state == "paused":
                    engine.abort(reason="interrupted at the terminal")
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)


@contextmanager
def _pausing(engine: Any, stop: StopRequest) -> Iterator[None]:
    """Pause the engine at its next checkpoint once a stop is requested; a thread of its own asks for it."""
    from bluesky.utils import TransitionError  # type: ignore[attr-defined]  # re-exported without __all__

    ended = StopRequest()

    def watch() -> None:
        while not ended.is_set():
            if not stop.wait(_POLL_S):
                continue
            try:
                engine.request_pause(defer=True)
            except TransitionError:  # the run has not begun yet, or is over
                ended.wait(_POLL_S)
            else:
                return

    watcher = threading.Thread(target=watch, name="pause-on-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _announcing(experiment: Experiment, truth: Path | None) -> Callable[[str, Any], None]:
    """Return a callback that prints each run and saves its truth at the end."""
    from quietbeam.beamline.truth import truth_path

    uid = ""

    def callback(name: str, doc: Any) -> None:
        nonlocal uid
        if name == "start":
            uid = doc["uid"]
            rows, cols = doc["shape"]
            typer.echo(f"run {uid}: {rows} x {cols} pixels, {doc['plan_name']}, {doc['sample']['name']}")
        elif name == "stop":
            if truth is not None:
                experiment.truth(uid).save(truth_path(truth, uid))
            typer.echo(f"run {uid}: {doc['exit_status']}, {doc['num_events'].get('primary', 0)} frames")

    return callback
