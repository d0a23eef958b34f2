"""`quietbeam denoise`: maps from files."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from quietbeam.denoiser.offline import DenoiseResult


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(_interruptible(denoise))


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """Make Ctrl-C end a command with one line and the exit code that shells expect."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            typer.echo("quietbeam: interrupted; nothing was written", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return run


@grouped
def denoise(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="HDF5, zarr, .npz or MDA with counts or spectra (ours, PyXRF's, MAPS', BLISS', EPICS'); a recording; "
            "or a run in Tiled: its address, or its uid.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="File: .h5 (NeXus), .pyxrf.h5, .maps.h5, .ome.zarr, .tif or .csv."),
    ],
    reading: InputOptions,
    choice: ChoiceAndSnakeOptions,
    learning: LearningOptions,
    writing: OutputOptions,
    profile: Annotated[
        list[str] | None,
        typer.Option("-p", "--profile", help="Profile for a run: a shipped name or a YAML file; several are tried."),
    ] = None,
    config: Annotated[str | None, typer.Option("-c", "--config", help="Settings: profiles for runs, Tiled.")] = None,
) -> None:
    """Denoise a map from a file or from Tiled; prints the validation result (dwell gain, 95 % interval) per line."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from quietbeam.batch.offline import Reading, denoise_map, find_weights, how_it_was_made
    from quietbeam.batch.source import errors_showing, remarks_of
    from quietbeam.core.settings import load_settings
    from quietbeam.files import check_target, format_of
    from quietbeam.ingest.profile.schema import shipped_profiles

    console = Console(markup=False, emoji=False)  # names are anybody's
    check_target(output, format_of(output, writing.format), Path(source))
    site = load_settings(config)
    written = writing.writing()
    written.check(site)
    weights = find_weights(learning.weights, site.weights_dir)
    how = Reading(
        lines=tuple(split_lines(reading.lines)),
        calibration=reading.calibration,
        tiled=reading.tiled,
        fit=reading.fit,
        profiles=tuple(profile or ([] if config else shipped_profiles())),
        choice=choice.choice(snake=choice.snake),
    )
    with errors_showing(_command(source, output, reading), source):
        file, name = how.read(source, site)
    written.check(site, file)
    options = learning.options(weights)
    columns = (TextColumn("{task.description:12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("read", total=1.0)
        result = denoise_map(file, options, lambda step, share: bar.update(task, description=step, completed=share))
    settings = how_it_was_made(source, options)
    notes = written.write(output, result, name, settings, file, site)
    _show(console, result, [*remarks_of(file), *notes])
    console.print(
        f"{output}: {result.denoised.shape[0]} lines, {result.evidence.fine_tune_steps} fine-tuning steps, "
        f"weights {result.evidence.model} {result.evidence.model_sha256[:12]}"
    )


def _command(source: str, output: Path, reading: InputOptions) -> str:
    """Return the command line as given, less its choices."""
    lines = ["--lines", reading.lines] if reading.lines else []
    return shlex.join(["quietbeam", "denoise", source, "-o", str(output), *lines])


def _show(console: Any, result: DenoiseResult, remarks: list[str]) -> None:
    """Print the validation result of every line, and the warnings."""
    from rich.table import Column, Table

    from quietbeam.core.model.evidence import interval

    table = Table(Column("line", no_wrap=True), "published", Column("verdict", no_wrap=True))
    for column in ("dwell gain", "95 % interval", "counts / pixel", "left out"):
        table.add_column(column)
    for line in result.evidence.lines:
        table.add_row(
            line.line,
            line.estimator,
            line.verdict,
            "" if line.dwell_gain is None else f"{line.dwell_gain:.1f}",
            interval(line),
            f"{line.mean_counts:.3g}",
            ", ".join(line.excluded_detectors),
        )
    console.print(table)
    for note in (*remarks, *result.evidence.notes):
        console.print(f"- {note}")
