"""`quietbeam simulate`: scans of a simulated specimen, sent the way a beamline sends them."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .options import Config, Speed, grouped
from .sample import SampleOptions, ScanOptions

_MOVED = ("--ioc", "--serve-only")


class _Simulate(TyperCommand):
    """The command; with an option that has moved to `quietbeam ioc` it runs that command instead."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not set(_MOVED) & set(args):
            return super().parse_args(ctx, args)
        words = [word for word in args if word not in _MOVED]
        words = words if "--serve-only" in args else ["--scan", *words]
        typer.echo(f"quietbeam: this is a command of its own now: {shlex.join(['quietbeam', 'ioc', *words])}", err=True)
        assert ctx.parent is not None and isinstance(ctx.parent.command, TyperGroup)
        command = ctx.parent.command.commands["ioc"]
        with command.make_context("ioc", words, parent=ctx.parent) as context:
            command.invoke(context)
        raise typer.Exit


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(cls=_Simulate)(simulate)


@grouped
def simulate(
    sample: SampleOptions,
    scan: ScanOptions,
    config: Config = None,
    speed: Speed = 1.0,
    burst: Annotated[
        int | None,
        typer.Option(help="Fly scan: frames per stream_datum, not aligned to rows (default: one row)."),
    ] = None,
) -> None:
    """Scan a simulated specimen with a real RunEngine in this process."""
    from quietbeam.beamline.experiment import Experiment
    from quietbeam.core.process.log import configure_logging
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings

    from .publishing import publishing

    settings = load_settings(config)
    configure_logging("simulate", level=settings.log_level)
    scan.check()
    experiment = Experiment(sample.experiment())
    stop = stop_on_signals()
    with publishing(settings, scan.transport) as publish:
        from quietbeam.beamline.plans import make_plan

        from .scan import make_engine, run_scans

        folder = settings.data_dir / "detector"
        run_scans(
            make_engine(experiment, publish, scan.truth),
            experiment,
            lambda: make_plan(scan.mode, experiment, speed=speed, folder=folder, burst=burst),
            repeat=scan.repeat,
            stop=stop,
        )
