"""The table of faults: each kind some times in scans that run, what was lost or doubled, and how soon all went on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from quietbeam.chaos.engine import Extent, Outcome, run
from quietbeam.chaos.faults import Fault, all_faults
from quietbeam.chaos.record import Done, Round, read_rounds
from quietbeam.chaos.summary import LEGEND, machine, times

TITLES = {
    "F0": "no fault: how soon runs go on by themselves on this machine",
    "F1": "a stage is killed or stopped",
    "F2": "a stage ends between an effect and what follows from it",
    "F3": "Redis is killed, stopped",
    "F4": "Redis refuses writes",
    "F5": "Tiled is away",
    "F6": "documents twice, in another order, missing",
    "F7": "documents that cannot be used",
    "F8": "counts that are no numbers, or negative",
    "F9": "detectors that are dead, noisy, late",
    "F10": "runs that are aborted, paused with a rewind, never stopped",
    "F11": "scans at the same time",
    "F12": "rows in any order and direction",
    "F13": "a disk is full",
    "F14": "the clock steps",
    "F15": "settings change while it runs",
    "F16": "maps of any size",
    "F17": "the GPU has no memory, is lost; learning diverges",
    "F18": "viewers that are slow or vanish",
    "F19": "versions mixed",
    "F20": "a stage is asked to stop",
    "F21": "a document fails again and again",
    "F22": "maps above the limits of messages",
}
ELSEWHERE = {
    "F3": "lost data (FLUSHALL): `tests/service/test_ingest_faults.py`; power failures: "
    "`tests/service/test_power_failure.py`",
    "F4": "the publisher's spool: `tests/service/test_ingest_publisher.py`; a slow Redis is not tried",
    "F5": "answers 500 and 409, a refused key: `tests/service/test_publish_tiled.py`; slow answers and 429: not tried",
    "F6": "permutations, drops: `tests/service/test_ingest_faults.py`",
    "F8": "not timed; `tests/service/test_ingest_odd_scans.py`, `tests/unit/test_core_not_measured.py`",
    "F9": "not timed; `tests/unit/test_denoiser_checks.py`",
    "F10": "not timed; `tests/system/test_pause.py`, `tests/service/test_ingest_runs.py`",
    "F11": "every trial above has three scans at the same time",
    "F12": "not timed; `tests/service/test_ingest_geometry.py`; trials above have raster, snake and fly scans",
    "F15": "not tried: settings are read at the start of a process only",
    "F16": "not timed; `tests/service/test_announced_sizes.py`",
    "F17": "not tried: no GPU on this machine",
    "F18": "`quietbeam benchmark viewers` ([table](viewers.md)), `tests/system/test_viewers.py`",
    "F19": "not timed; `tests/service/test_versions.py`",
    "F20": "each stage 100 times: `python -m tests.stops`",
    "F21": "not timed; `tests/service/test_ingest_poison.py`",
    "F22": "not timed; `tests/service/test_publish_tiled.py`",
}
"""Where a fault, or the part of it that is not timed here, is tried."""


class Trials:
    """What was done so far, kept in a file so that a later call goes on.

    Parameters
    ----------
    path
        JSON file; made by :meth:`save`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rounds: list[Round] = []
        self.skipped: dict[str, str] = {}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.skipped = kept["skipped"]
            for fields in kept["rounds"]:
                faults = [Done(**fault) for fault in fields.pop("faults")]
                self.rounds.append(Round(faults=faults, **fields))

    def save(self) -> None:
        """Write the file; readers see it whole."""
        draft = self._path.with_suffix(".new")
        kept = {"skipped": self.skipped, "rounds": [asdict(one) for one in self.rounds]}
        draft.write_text(json.dumps(kept, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        draft.replace(self._path)

    def of(self, name: str) -> list[Done]:
        """Return the trials of a kind."""
        return [fault for one in self.rounds for fault in one.faults if fault.fault == name]

    def missing(self, faults: Sequence[Fault], wanted: int) -> Iterator[Fault]:
        """Yield the kind with the fewest trials until each has as many as wanted."""
        done = Counter({fault.name: len(self.of(fault.name)) for fault in faults})
        while faults and min(done[fault.name] for fault in faults) < wanted:
            fault = min(faults, key=lambda one: done[one.name])
            done[fault.name] += 1
            yield fault


def run_faults(
    folder: Path,
    output: Path,
    *,
    trials: int,
    extent: Extent,
    cannot_mount: str,
    say: Callable[[str], None],
    logs: Sequence[Path] = (),
    command: str = "",
) -> Path:
    """Do what is missing of the trials, write ``faults.json`` and ``faults.md`` after each round; return the page.

    Parameters
    ----------
    folder
        Empty, for the installation.
    output
        Folder of the two files.
    logs
        Logs of chaos whose faults count as trials.

    Raises
    ------
    InputError
        A log is none.
    """
    output.mkdir(parents=True, exist_ok=True)
    kept, page = Trials(output / "faults.json"), output / "faults.md"
    for path in logs:
        kept.rounds += [one for one in read_rounds(path) if one not in kept.rounds]

    def write() -> None:
        kept.save()
        page.write_text(report(kept, command), encoding="utf-8")

    def each_round(outcome: Outcome) -> None:
        kept.rounds.append(outcome.rounds[-1])
        kept.skipped = dict(outcome.skipped)
        write()

    write()
    if next(kept.missing(all_faults(), trials), None) is not None and extent.minutes > 0:
        run(
            extent,
            folder,
            cannot_mount=cannot_mount,
            say=say,
            each_round=each_round,
            choose=lambda faults: kept.missing(faults, trials),
        )
    return page


def report(kept: Trials, command: str) -> str:
    """Return the page."""
    pixels = sum(one.pixels for one in kept.rounds)
    lines = [
        "# Table of faults",
        "",
        f"`{command}`, {machine()}. Each trial is one fault in three scans that run at the same time. "
        f"After each round of trials every count is compared with what the simulator measured ({pixels} pixels), "
        "and the final maps in zarr, over REST and in Tiled with each other.",
        "",
        *LEGEND,
        "`lost`, `doubled`: pixels of all rounds in which the fault was tried, other faults of the round included.",
        "",
        "| | fault | n | lost | doubled | held s, longest | ready s p50 | p95 | CPU s | after it s p50 | p95 | worst | "
        "went on | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, title in TITLES.items():
        lines += _rows(kept, number, title)
    lines += ["", "## Not timed here", ""]
    lines += [f"- {number}, {TITLES[number]}: {where}" for number, where in ELSEWHERE.items()]
    violations = [text for one in kept.rounds for text in one.violations]
    if violations:
        lines += ["", "## Violations", "", *(f"- {text}" for text in violations)]
    return "\n".join(lines) + "\n"


def _rows(kept: Trials, number: str, title: str) -> list[str]:
    found = []
    for fault in (one for one in all_faults() if one.number == number):
        done = kept.of(fault.name)
        if not done:
            why = kept.skipped.get(fault.needs, "not tried yet")
            found.append(f"| {number} | {fault.name} | 0 | | | | | | | | | | | {why} |")
            continue
        rounds = [one for one in kept.rounds if any(f.fault == fault.name for f in one.faults)]
        lost, doubled = sum(one.lost for one in rounds), sum(one.doubled for one in rounds)
        found.append(f"| {number} | {fault.name} | {len(done)} | {lost} | {doubled} | {times(done)} |")
    return found or [f"| {number} | {title} | | | | | | | | | | | | below |"]
