"""`quietbeam up`: everything on one machine, in the foreground; and the embedded servers it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(up)
    app.command("_tiled", hidden=True)(tiled_server)
    app.command("_zmq-proxy", hidden=True)(zmq_proxy)


def up(
    config: Config = None,
    timeout: Annotated[float, typer.Option(help="Time limit in seconds for everything to be ready.")] = 180.0,
) -> None:
    """Run servers and stages here until Ctrl-C. Crashed processes are restarted; Ctrl-C shuts down cleanly."""
    import signal
    import sys

    from quietbeam.app import Supervisor
    from quietbeam.core.errors import ServiceError
    from quietbeam.core.process.log import configure_logging, keep_from_others
    from quietbeam.core.settings import load_settings

    settings = load_settings(config)
    configure_logging("up", level=settings.log_level)
    keep_from_others()
    supervisor = Supervisor(settings, config, report=lambda text: typer.echo(text, err=True))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.request_stop())
    supervisor.start()
    try:
        supervisor.wait_ready(timeout)
    except ServiceError as error:
        supervisor.stop()
        typer.echo(f"quietbeam: {error}", err=True)
        sys.exit(2)
    if not supervisor.stopping:
        for line in where(settings):
            typer.echo(line)
        sys.stdout.flush()
    while not supervisor.wait(0.5):
        pass
    supervisor.stop()
    sys.exit(1 if supervisor.failure else 0)


def key_text(key: str, path: Path) -> str:
    """Return what follows an address: the key on a terminal, elsewhere the file that holds it."""
    import sys

    return f"?api_key={key}" if sys.stdout.isatty() else f"  (?api_key=... with the key in {path.resolve()})"


def where(settings: object) -> list[str]:
    """Return where to find what `up` runs, one line each.

    Keys that were made here are shown on a terminal only: a log keeps what is printed. Keys that were given are not
    shown.
    """
    from quietbeam.core.secrets import masked
    from quietbeam.core.settings import Settings

    assert isinstance(settings, Settings)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.serve.host, settings.serve.host)
    host = f"[{host}]" if ":" in host else host
    serve_key = "" if settings.serve.api_key else key_text(settings.serve_api_key(), settings.secrets_dir / "api_key")
    tiled_key = ""
    if not settings.tiled.api_key:
        tiled_key = key_text(settings.tiled_api_key(), settings.secrets_dir / "tiled_api_key")
    lines = [
        f"Dashboard  http://{host}:{settings.serve.port}/{serve_key}",
        f"Tiled      {masked(settings.tiled_uri)}{tiled_key}",
        f"Redis      {masked(settings.redis_url)}",
    ]
    if settings.embedded.zmq_in:
        lines.append(f"0MQ        publish to {settings.embedded.zmq_in}, subscribe to {settings.embedded.zmq_out}")
    lines.append(f"Data       {settings.data_dir.resolve()} (logs in logs/)")
    return lines


def tiled_server(config: Config = None) -> None:
    """Run the embedded Tiled server."""
    from quietbeam.core.process.log import configure_logging, keep_from_others
    from quietbeam.core.settings import load_settings
    from quietbeam.embedded import tiled_server as server

    settings = load_settings(config)
    configure_logging("tiled", level=settings.log_level)
    keep_from_others()
    server.serve(settings)


def zmq_proxy(config: Config = None) -> None:
    """Run the embedded 0MQ proxy."""
    from quietbeam.core.process.log import configure_logging, keep_from_others
    from quietbeam.core.settings import load_settings
    from quietbeam.embedded import zmq_proxy as proxy

    settings = load_settings(config)
    configure_logging("zmq", level=settings.log_level)
    keep_from_others()
    proxy.serve(settings)
