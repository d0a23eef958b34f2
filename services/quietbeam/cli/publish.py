"""`quietbeam publish`: the stage that keeps Tiled up to date."""

from __future__ import annotations

import typer

from .options import Config


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(publish)


def publish(
    config: Config = None,
) -> None:
    """Send maps, evidence and provenance to Tiled as they change."""
    from quietbeam.core.process.log import configure_logging, keep_from_others
    from quietbeam.core.process.outage import build_when_possible
    from quietbeam.core.process.stage import run_stage
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings
    from quietbeam.core.wire.bus import connect
    from quietbeam.publish import PublishStage

    settings = load_settings(config)
    configure_logging("publish", level=settings.log_level)
    keep_from_others()
    stop = stop_on_signals()
    connection = connect(settings.redis_url)
    stage = build_when_possible(lambda: PublishStage(settings, connection), "publish", stop, settings.data_dir)
    if stage is not None:
        run_stage(stage, connection, stop, detail=stage.detail, trouble=stage.trouble, folder=settings.data_dir)
