"""The outcome in Markdown."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from quietbeam import __version__

from .engine import Outcome
from .record import Done


def summary(outcome: Outcome, command: str) -> str:
    """Return the page: what was done, what was found, each kind of fault with its times."""
    runs = sum(len(one.runs) for one in outcome.rounds)
    pixels = sum(one.pixels for one in outcome.rounds)
    faults, violations = outcome.faults, outcome.violations
    verdict = f"**{len(violations)} violations.**" if violations else "No violation."
    lines = [
        "# Faults on purpose, all at once",
        "",
        f"`{command}`, {machine()}. {outcome.seconds / 60:.0f} minutes, seed {outcome.extent.seed}: "
        f"{len(faults)} faults, {runs} scans ({outcome.extent.scans} at once), {pixels} pixels. {verdict}",
        "",
        "After each round of scans everything is compared: every count in zarr with what the simulator measured, the",
        "final maps in zarr, over REST and in Tiled with each other. Versions of the maps are watched all along.",
        "",
        *(["## Violations", "", *(f"- {text}" for text in violations), ""] if violations else []),
        "## Faults",
        "",
        *fault_table(faults),
        "",
        "F1 and so on are the numbers of the faults in the [table of faults](faults.md), which says what each is.",
        *LEGEND,
        "",
        "## Rounds",
        "",
        "| round | faults | scans | pixels compared | calm s | violations | memory MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in outcome.rounds:
        memory = ", ".join(f"{name} {mb}" for name, mb in one.memory_mb.items())
        lines.append(
            f"| {one.number} | {len(one.faults)} | {len(one.runs)} | {one.pixels} | {one.calm_s:.0f} | "
            f"{len(one.violations)} | {memory} |"
        )
    lines += ["", f"Changes of a version that were seen in zarr, Redis or Tiled: {outcome.versions}."]
    lines += _listed("Not done on this machine", [f"{what}: {why}" for what, why in outcome.skipped.items()])
    exits = [f"{how}: {n}" for how, n in outcome.exits.items()]
    lines += _listed("Programs that ended by themselves", exits)
    if exits:
        lines += ["", *ENDED]
    lines += _listed("Errors in the logs", [f"{what}: {n}" for what, n in outcome.errors.items()])
    return "\n".join(lines) + "\n"


ENDED = (
    "Valkey ends with exit code 1 when the disk of its log of changes is full; `up` starts it again until there is",
    "room, and what it had answered is on disk. Other programs are not expected to end by themselves.",
)
LEGEND = (
    "`held`: how long the cause was there. `ready`: from its end, or from the kill, until every program ran again.",
    "`CPU s`: processor time of the slowest program that was started anew: about `ready` on an idle machine (median).",
    "`after it`: from there until every stage had gone on with each run that was being scanned.",
    "`load`: processes that wanted to run on this machine, other work included (median).",
)


def fault_table(faults: Sequence[Done]) -> list[str]:
    """Return a table with a row for each kind of fault."""
    lines = [
        "| fault | | n | held s, longest | ready s p50 | p95 | CPU s | after it s p50 | p95 | worst | went on | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted({fault.fault for fault in faults}, key=lambda n: _order(n, faults)):
        done = [fault for fault in faults if fault.fault == name]
        lines.append(f"| {name} | {done[0].number} | {len(done)} | {times(done)} |")
    return lines


def times(done: Sequence[Done]) -> str:
    """Return the cells of some faults of one kind, from the time held to the load."""
    back, after = [f.back_s for f in done], [max(0.0, f.whole_s - f.back_s) for f in done]
    held, loads = max(f.held_s for f in done), [f.load for f in done if f.load]
    starts = [f.start_cpu_s for f in done if f.start_cpu_s]
    cells = [
        f"{held:.1f}" if held else "",
        _p(back, 50),
        _p(back, 95),
        _p(starts, 50),
        _p(after, 50),
        _p(after, 95),
        _p(after, 100),
        str(sum(not fault.missing for fault in done)),
        _p(loads, 50),
    ]
    return " | ".join(cells)


def machine() -> str:
    """Return processor, cores, load, Python and version of quietbeam."""
    load = os.getloadavg()[0]
    return (
        f"quietbeam {__version__}, Python {sys.version.split()[0]}, {platform.machine()}, {os.cpu_count()} cores, "
        f"load {load:.1f} at the end"
    )


def _p(values: Sequence[float], percent: int) -> str:
    found: Any = np.percentile(values, percent) if values else None
    return "" if found is None else f"{found:.1f}"


def _order(name: str, faults: Sequence[Done]) -> tuple[int, str]:
    return next(int(f.number[1:]) for f in faults if f.fault == name), name


def _listed(title: str, entries: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {entry}" for entry in entries)] if entries else []
