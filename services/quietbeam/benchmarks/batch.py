"""What a second worker brings to a batch of small files, and what handing out the files costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quietbeam.batch.cluster import workers
from quietbeam.batch.found import find
from quietbeam.batch.job import Job, Outcome
from quietbeam.batch.offline import Reading, Writing
from quietbeam.batch.plan import plan
from quietbeam.batch.run import Batch
from quietbeam.core.errors import InputError
from quietbeam.core.settings import BatchSettings, Settings
from quietbeam.denoiser.options import DenoiseOptions

_WORKERS = 2
_SIDE = 32
_FIELDS = ("files", "wall_s", "busy_s", "tail_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Some files with at most `at_once` at once.

    Attributes
    ----------
    wall_s, busy_s
        Seconds on the clock, and seconds that workers spent on files.
    tail_s
        From the end of the last file but one to that of the last: the other worker has nothing to do.
    """

    at_once: int
    files: int
    wall_s: float
    busy_s: float
    tail_s: float


def measure(folder: Path, files: int, turns: int, say: Callable[[str], object]) -> list[Turn]:
    """Work on files in turns: one at once, two at once, and again; all with the same two processes.

    Raises
    ------
    InputError
        There are fewer files than turns, or a file failed.
    """
    if files < 2 * turns:
        raise InputError(f"{files} files are too few for {2 * turns} turns")
    jobs = _jobs(folder, files + 2 * _WORKERS)
    settings = BatchSettings(workers=_WORKERS, retries=0)
    found = []
    with workers(settings, files=files, device="cpu", say=say) as client:
        _work(Batch(client, None, 0, _done), jobs[files:])  # both load torch and the weights
        for i, share in enumerate(np.array_split(np.arange(files), 2 * turns)):
            at_once = 1 + i % 2
            turn = _turn(client, [jobs[j] for j in share], at_once)
            found.append(turn)
            say(f"{len(share)} files, {at_once} at once: {turn.wall_s:.1f} s")
    return found


def _jobs(folder: Path, files: int) -> list[Job]:
    source = folder / "archive"
    source.mkdir()
    rows = np.mgrid[:_SIDE, :_SIDE][0]
    for i in range(files):
        counts = np.random.default_rng(i).poisson(1 + rows / 8, (2, 2, _SIDE, _SIDE)).astype(np.uint32)
        np.savez(source / f"map{i:04}.npz", counts=counts, lines=["Fe_Ka", "Cu_Ka"])
    output, site = folder / "results", Settings(data_dir=folder / "data")
    options = DenoiseOptions(fine_tune=False, device="cpu")
    return plan(find([str(source)], site, output).found, output, Reading(), Writing(), options, site, None)


def _turn(client: Any, jobs: list[Job], at_once: int) -> Turn:
    ended: list[float] = []
    outcomes: list[Outcome] = []

    def note(outcome: Outcome) -> None:
        ended.append(time.monotonic())
        _done(outcome)
        outcomes.append(outcome)

    wall = _work(Batch(client, None, 0, note, at_once=at_once), jobs)
    busy = sum(outcome.seconds for outcome in outcomes)
    tail = ended[-1] - ended[-2] if at_once > 1 else 0.0
    return Turn(at_once=at_once, files=len(jobs), wall_s=wall, busy_s=busy, tail_s=tail)


def _work(batch: Batch, jobs: list[Job]) -> float:
    began = time.monotonic()
    batch.run(jobs)
    return time.monotonic() - began


def _done(outcome: Outcome) -> None:
    if outcome.status != "done":
        raise InputError(f"{outcome.source} was not denoised: {outcome.error}")


def report(turns: list[Turn], command: str) -> str:
    """Return the table as Markdown."""
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    lines = [
        "# Batch",
        "",
        f"`{command}`",
        "",
        f"Maps of {_SIDE} x {_SIDE} pixels, 2 lines and 2 detectors, pretrained network only, on the CPU. Two",
        "processes of one thread each. Turns with one and with two files at once alternate: other load meets both.",
        f"Load of the {os.cpu_count()} cores at the end: {load} (1, 5, 15 minutes).",
        "",
        "| files at once | files | seconds | files / minute | seconds of a file | overhead of a file |",
        "|---|---|---|---|---|---|",
    ]
    rates = {}
    for at_once in sorted({turn.at_once for turn in turns}):
        mine = [turn for turn in turns if turn.at_once == at_once]
        files, wall, busy, tail = (sum(getattr(turn, name) for turn in mine) for name in _FIELDS)
        idle = at_once * wall - busy - tail
        rates[at_once] = files / wall
        lines.append(
            f"| {at_once} | {files} | {wall:.1f} | {60 * files / wall:.1f} | {busy / files:.3f} | "
            f"{1000 * idle / files:.1f} ms ({100 * idle / busy:.1f} %) |"
        )
    lines += [
        "",
        f"Two workers do {rates[2] / rates[1]:.2f} times as much as one. The overhead of a file is the time that a",
        "worker waits for its next one; the wait for the last file of a turn is left out.",
        "",
    ]
    return "\n".join(lines)
