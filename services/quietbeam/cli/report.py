"""`quietbeam report`: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(report)


def report(
    run: Annotated[str, typer.Argument(help="Uid of the run, its beginning, or `latest`.")] = "latest",
    config: Config = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="HTML file; UID.html when left out.")] = None,
) -> None:
    """Write a run's maps, evidence and provenance as one HTML file; also without any service running."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from quietbeam.core.errors import InputError
    from quietbeam.core.settings import load_settings
    from quietbeam.core.wire.bus import connect
    from quietbeam.serve.report.page import make_report
    from quietbeam.serve.state.catalog import RunCatalog
    from quietbeam.serve.state.maps import MapReader
    from quietbeam.serve.state.units import UnitTable

    settings = load_settings(config)
    connection = connect(settings.redis_url)
    connection.set_retry(Retry(NoBackoff(), 0))  # what the files say comes sooner
    try:
        catalog = RunCatalog(settings.runs_dir, connection)
        if not catalog.redis_answers(quietly=True):
            typer.echo("Redis does not answer: what the files of the runs say is reported", err=True)
        uid = catalog.resolve(run)
        matches = [candidate for candidate in catalog.uids() if candidate.startswith(uid)]
        if len(matches) > 1 and uid not in matches:
            raise InputError(f"{len(matches)} runs begin with {uid!r}: {', '.join(matches[:5])}; give more of the uid")
        status = catalog.status(matches[0] if len(matches) == 1 else uid)
        maps = MapReader(settings.runs_dir)
        units = UnitTable(settings.quantify.calibration, settings.calibrations_dir, maps)
        page = make_report(status, maps, units)
    finally:
        connection.close()
    path = output or Path(f"{status.uid}.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    size = len(page.encode())
    typer.echo(f"{path}: {size / 1e6:.1f} MB" if size >= 1e6 else f"{path}: {size / 1e3:.0f} kB")
