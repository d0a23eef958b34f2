"""`quietbeam serve`: REST API, event stream and dashboard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Config


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(serve)


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Overrides serve.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides serve.port; 0 takes a free one.")] = None,
    write_openapi: Annotated[
        Path | None, typer.Option(help="Write the OpenAPI document to this file and exit.")
    ] = None,
) -> None:
    """Serve maps, evidence and events over HTTP, and the dashboard at /."""
    from quietbeam.core.process.log import configure_logging, keep_from_others
    from quietbeam.core.settings import load_settings

    settings = load_settings(config)
    changed = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update=changed)})
    configure_logging("serve", level=settings.log_level)
    if write_openapi is not None:
        from quietbeam.serve.app import openapi_json

        write_openapi.write_text(openapi_json(), encoding="utf-8")
        return
    from quietbeam.serve import serve as serve_forever

    keep_from_others()

    if sys.stdout.isatty():
        at = f"http://{settings.serve.host}:{settings.serve.port}{settings.serve.root_path}"
        typer.echo(f"Dashboard: {at}/?api_key={settings.serve_api_key()}")
    serve_forever(settings)
