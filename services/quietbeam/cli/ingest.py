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
    import redis
    import structlog

    from quietbeam.core.process.log import configure_logging
    from quietbeam.core.process.stage import run_stage
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings
    from quietbeam.core.wire.bus import connect
    from quietbeam.ingest.stage.service import IngestStage

    settings = load_settings(config)
    configure_logging("ingest", level=settings.log_level)
    stop = stop_on_signals()
    connection = connect(settings.redis_url)
    waiting = False
    while not stop.is_set():
        try:
            connection.ping()
            break
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if not waiting:
                remedy = "start it, or correct redis.url (REDIS_URL)"
                structlog.get_logger().warning("waiting_for_redis", error=str(error), remedy=remedy)
            waiting = True
            stop.wait(1.0)
    if stop.is_set():
        return
    run_stage(IngestStage(settings, connection), connection, stop)
