"""`quietbeam report`: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Config

if TYPE_CHECKING:
    from quietbeam.serve.state.catalog import RunCatalog


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
        status = catalog.status(_find(catalog, run, settings.runs_dir))
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


def _find(catalog: RunCatalog, run: str, folder: Path) -> str:
    """Return the uid of a run from its beginning, or of the latest.

    Raises
    ------
    InputError
        There is none, or several; the message says where was looked.
    """
    from quietbeam.core.errors import InputError

    uids = catalog.uids()
    if not uids:
        raise InputError(
            f"there is no run in {folder.absolute()}",
            remedy="give the settings of the service, which say where its data_dir is: quietbeam report RUN -c FILE",
        )
    uid = catalog.resolve(run)
    matches = [candidate for candidate in uids if candidate.startswith(uid)]
    if uid in matches:
        return uid
    if len(matches) > 1:
        raise InputError(f"{len(matches)} runs begin with {uid!r}: {', '.join(matches[:5])}; give more of the uid")
    if not matches:
        raise InputError(
            f"no run in {folder.absolute()} begins with {run[:64]!r}; the newest are {', '.join(uids[:3])}",
            remedy="take one of them or latest, or give the settings of another data_dir: quietbeam report RUN -c FILE",
        )
    return matches[0]
