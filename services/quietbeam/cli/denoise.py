"""`quietbeam denoise`: maps from files."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from .beamline import EXIT_ABORTED


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
            raise typer.Exit(EXIT_ABORTED) from None

    return run


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
    format: Annotated[str, typer.Option(help="Format, where the name's ending does not say it.")] = "",
    lines: Annotated[
        str, typer.Option(help="Comma-separated lines to take; all (of spectra: all with a peak) when left out.")
    ] = "",
    calibration: Annotated[
        Path | None, typer.Option(help="JSON with (offset, width) in keV for each detector, for spectra.")
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Fit spectra (PyMca) instead of summing windows.")] = False,
    budget: Annotated[
        float,
        typer.Option(
            min=0,
            help="Most seconds of fine-tuning on this map. How many steps fit in is up to the clock; 0 for none.",
        ),
    ] = 30.0,
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Most steps of fine-tuning, in place of --budget: the same maps again, on any day."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    no_fine_tune: Annotated[bool, typer.Option("--no-fine-tune", help="Use the pretrained network as it is.")] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Fixes every random draw, but not how many steps fit into --budget.")
    ] = 0,
    weights: Annotated[
        str,
        typer.Option(
            help="Weights to start from: shipped ones or of data_dir/weights, by name, or a .safetensors file; the "
            "newest when left out."
        ),
    ] = "",
    tiled: Annotated[
        str, typer.Option(help="Tiled, or a catalog in it, that has the uid; default: as configured.")
    ] = "",
    profile: Annotated[
        list[str] | None,
        typer.Option("-p", "--profile", help="Profile for a run: a shipped name or a YAML file; several are tried."),
    ] = None,
    config: Annotated[str | None, typer.Option("-c", "--config", help="Settings: profiles for runs, Tiled.")] = None,
) -> None:
    """Denoise a map from a file or from Tiled; prints what held-out photons say of every line."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column, Table

    from quietbeam.core.errors import InputError
    from quietbeam.core.model.evidence import interval
    from quietbeam.core.settings import load_settings
    from quietbeam.denoiser.offline import denoise as run
    from quietbeam.files import check_target, format_of, write_result
    from quietbeam.ingest.profile.schema import shipped_profiles
    from quietbeam_models.weights import known

    from .source import read_source

    console = Console(markup=False, emoji=False)  # names are anybody's
    check_target(output, format_of(output, format), Path(source))
    site = load_settings(config)
    there = known(site.weights_dir)
    if weights and weights not in there and not weights.endswith(".safetensors"):
        raise InputError(f"no weights {weights!r}; there are {', '.join(there)}, or name a .safetensors file")
    asked = [name.strip() for name in lines.split(",") if name.strip()]
    file, name = read_source(
        source,
        site,
        lines=asked,
        calibration=calibration,
        tiled=tiled,
        fit=fit,
        profiles=profile or ([] if config else shipped_profiles()),
    )
    columns = (TextColumn("{task.description:12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("read", total=1.0)
        result = run(
            file.counts,
            file.lines,
            i0=file.i0,
            live_time_s=file.live_time_s,
            measured=file.measured,
            detectors=file.detectors,
            device=device,
            budget_s=budget,
            steps=steps,
            fine_tune=not no_fine_tune,
            seed=seed,
            weights=there.get(weights, weights),
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )
    budget_given = {"budget_s": budget} if steps is None else {"steps": steps}
    settings = {"input": str(source), **budget_given, "device": device, "fine_tune": not no_fine_tune, "seed": seed}
    write_result(output, result, source=name, settings=settings, format=format)
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
    for note in filter(None, (file.remark, *result.evidence.notes)):
        console.print(f"- {note}")
    console.print(
        f"{output}: {result.denoised.shape[0]} lines, {result.evidence.fine_tune_steps} fine-tuning steps, "
        f"weights {result.evidence.model} {result.evidence.model_sha256[:12]}"
    )
