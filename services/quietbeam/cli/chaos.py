"""`quietbeam chaos`: faults on purpose in an installation of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Seed


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(chaos)


def chaos(
    minutes: Annotated[float, typer.Option(min=0.1, help="A round of scans begins as long as this is not over.")] = 5.0,
    seed: Seed = 0,
    scans: Annotated[int, typer.Option(min=1, max=16, help="Scans at once.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Markdown file of the summary; default: printed only.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="New folder for data and log, kept; default: a temporary one.")
    ] = None,
) -> None:
    """Scan, do faults on purpose, compare every count and every map; exit code 1 when something is not as it must be.

    Starts its own servers and stages; nothing else on the machine is touched. As root on Linux, disks are filled, too.
    """
    import shutil
    import sys
    import tempfile

    from quietbeam.chaos.machine import own_mounts

    cannot_mount = own_mounts()
    from quietbeam.app.demo import forget_facility
    from quietbeam.chaos.engine import Extent, Outcome, run
    from quietbeam.chaos.summary import summary

    forget_facility()
    command = " ".join(["quietbeam", *sys.argv[1:]])
    place = folder or Path(tempfile.mkdtemp(prefix="quietbeam-chaos-"))
    place.mkdir(parents=True, exist_ok=True)

    def write(outcome: Outcome) -> None:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(summary(outcome, command), encoding="utf-8")

    extent = Extent(minutes=minutes, seed=seed, scans=scans)
    outcome = run(extent, place, cannot_mount=cannot_mount, say=typer.echo, each_round=write)
    write(outcome)
    typer.echo(summary(outcome, command))
    if outcome.violations:
        typer.echo(f"logs and files of the runs concerned are in {place}")
        raise typer.Exit(1)
    if folder is None:
        shutil.rmtree(place, ignore_errors=True)
