"""`quietbeam batch`: an archive of maps, on the workers of Dask."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quietbeam.core.errors import InputError, ServiceError

from .options import (
    EXIT_INTERRUPTED,
    ChoiceAndSnakeOptions,
    InputOptions,
    LearningOptions,
    OutputOptions,
    grouped,
    split_lines,
)

if TYPE_CHECKING:
    from quietbeam.batch.found import Search
    from quietbeam.batch.job import Job, Outcome
    from quietbeam.core.process.stop import StopRequest
    from quietbeam.core.settings import BatchSettings, Settings


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Where a batch runs."""

    scheduler: Annotated[
        str, typer.Option(help="Address of a Dask scheduler, as tcp://HOST:8786; default: as configured.")
    ] = ""
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of this machine, or jobs of the configured batch system.")
    ] = None
    config: Annotated[
        str | None, typer.Option("-c", "--config", help="Settings: workers (batch), profiles for runs, Tiled.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(batch)


@grouped
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, patterns in quotes ('2026/**/*.h5'), or the address of a run or container in Tiled, "
            "with conditions as http://HOST/api/v1/metadata/raw?start.plan_name=grid_scan.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results, outside of the sources.")],
    reading: InputOptions,
    choice: ChoiceAndSnakeOptions,
    learning: LearningOptions,
    writing: OutputOptions,
    where: BatchOptions,
    profile: Annotated[
        list[str] | None,
        typer.Option("-p", "--profile", help="Profile for runs: a shipped name or a YAML file; several are tried."),
    ] = None,
) -> None:
    """Denoise many maps on many cores or machines; what is done already is skipped, a failed file costs itself only."""
    _check_dask()
    from quietbeam.batch.found import find
    from quietbeam.batch.offline import Reading
    from quietbeam.batch.plan import plan
    from quietbeam.core.settings import load_settings
    from quietbeam.ingest.profile.schema import shipped_profiles

    site = load_settings(where.config)
    settings = _place(site, where)
    how = Reading(
        lines=tuple(split_lines(reading.lines)),
        calibration=reading.calibration,
        tiled=reading.tiled,
        fit=reading.fit,
        profiles=tuple(profile or ([] if where.config else shipped_profiles())),
        choice=choice.choice(snake=choice.snake),
    )
    search = find(sources, site, output, reading.tiled)
    options = learning.options(learning.weights)
    jobs = plan(search.found, output, how, writing.writing(), options, site, where.config)
    _run(search, jobs, output, settings)


def _check_dask() -> None:
    if importlib.util.find_spec("distributed") is None:
        raise InputError(
            "quietbeam batch stands on Dask, which is not installed", remedy="pip install 'quietbeam[batch]'"
        )


def _place(site: Settings, where: BatchOptions) -> BatchSettings:
    """Return the settings with the options of the command line in them."""
    settings = site.batch
    if where.scheduler:
        settings = settings.model_copy(update={"scheduler": where.scheduler, "cluster": None})
    if where.workers is not None:
        if settings.scheduler:
            raise InputError("--workers: a Dask scheduler has the workers that it has", remedy="leave one of them out")
        settings = settings.model_copy(update={"workers": where.workers})
    return settings


def _run(search: Search, jobs: list[Job], output: Path, settings: BatchSettings) -> None:
    """Work on the files under the lock of the output folder, write the report, and end with the exit code."""
    from rich.console import Console

    from quietbeam.batch.job import Outcome
    from quietbeam.batch.report import summary, write_report
    from quietbeam.batch.run import LOCK, remove_leftovers
    from quietbeam.core.process.lock import HeldError, acquire
    from quietbeam.core.process.stop import StoppedError, stop_on_signals

    console = Console(markup=False, emoji=False, highlight=False)
    outcomes = [Outcome(source=name, status="left out", error=why) for name, why in search.left_out]
    outcomes += [Outcome(source=name, status="failed", error=why) for name, why in search.unreadable]
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = acquire(output / LOCK)
    except HeldError as error:
        raise InputError(
            f"process {error.pid} runs a batch into {output}: wait for it, or choose another folder"
        ) from error
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror or error}); choose another place") from error
    ended: Exception | None = None
    # a flag: an exception that a signal raises is lost where Dask happens to be in a finalizer
    stop = stop_on_signals()
    targets = [job.target for job in jobs]
    with lock:
        remove_leftovers(output, targets)
        try:
            _work(jobs, settings, outcomes, console, stop)
        except (StoppedError, ServiceError) as error:
            ended = error
        remove_leftovers(output, targets)
        try:
            path = write_report(output, outcomes, shlex.join(["quietbeam", *sys.argv[1:]]))
            console.print(f"{summary(outcomes)}: {path}", soft_wrap=True)
        except OSError as error:
            typer.echo(f"quietbeam: the report could not be written: {error.strerror or error}", err=True)
    if ended is not None and stop.is_set():
        typer.echo(
            "quietbeam: interrupted; what is finished is kept: run the same command again for the rest", err=True
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if ended is not None:
        raise ended
    worked = {outcome.status for outcome in outcomes}
    if "failed" in worked or not worked & {"done", "done before"}:
        raise typer.Exit(1)


def _work(jobs: list[Job], settings: BatchSettings, outcomes: list[Outcome], console: Any, stop: StopRequest) -> None:
    """Work on the files, and show how far it is."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from quietbeam.batch.cluster import offers, workers
    from quietbeam.batch.run import Batch

    device = jobs[0].options.device
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with (
        workers(settings, files=len(jobs), device=device, say=console.print) as client,
        Progress(*columns, console=console, transient=True, speed_estimate_period=3600) as bar,
    ):
        task = bar.add_task("", total=len(jobs))

        def note(outcome: Outcome) -> None:
            outcomes.append(outcome)
            bar.update(task, advance=1)
            if outcome.status == "failed":
                named = outcome.error.startswith(outcome.source)
                console.print(outcome.error if named else f"{outcome.source}: {outcome.error}", soft_wrap=True)

        def count(n: int) -> None:
            bar.update(task, description=f"{n} worker{'s' if n != 1 else ''}")

        Batch(client, offers(client, device), settings.retries, note, count, stop=stop).run(jobs)
