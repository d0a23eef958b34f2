"""`quietbeam ingest`: the stage that turns documents into rows of counts."""

from __future__ import annotations

import typer

from .options import Config


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(ingest)


def ingest(
    config: Config = None,
) -> None:
    """Receive Bluesky documents and keep every count, row by row. One per data_dir."""
    from quietbeam.core.process.log import configure_logging, keep_from_others
    from quietbeam.core.process.outage import build_when_possible
    from quietbeam.core.process.stage import run_stage
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings
    from quietbeam.core.wire.bus import connect
    from quietbeam.ingest.stage.service import IngestStage

    settings = load_settings(config)
    configure_logging("ingest", level=settings.log_level)
    keep_from_others()
    stop = stop_on_signals()
    connection = connect(settings.redis_url)
    stage = build_when_possible(lambda: IngestStage(settings, connection), "ingest", stop, settings.data_dir)
    if stage is not None:
        run_stage(stage, connection, stop, trouble=stage.trouble, folder=settings.data_dir)
