"""`quietbeam record`: documents of runs into a file, from any source, beside ingest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import EXIT_INTERRUPTED, Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quietbeam.core.process.stop import StopRequest
    from quietbeam.ingest.documents.recorder import Recorder
    from quietbeam.ingest.transports import DocumentSource

EXIT_GAPS = 1


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(record)


def record(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="New file: .jsonl or .msgpack (keeps types of arrays), or with .gz.")
    ],
    config: Config = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="URL as in ingest.sources; default: all that are set there.")
    ] = None,
    runs: Annotated[int, typer.Option(min=0, help="Stop after this number of complete runs. 0: stop at Ctrl-C.")] = 1,
    history: Annotated[
        bool,
        typer.Option("--history", help="Start with documents that the source still holds."),
    ] = False,
) -> None:
    """Record whole runs, document by document, as they come. Ingest gets every document all the same."""
    from quietbeam.core.errors import ServiceError
    from quietbeam.core.process.log import configure_logging
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings
    from quietbeam.core.wire.bus import connect
    from quietbeam.ingest.documents.recorder import Recorder
    from quietbeam.ingest.transports import make_tap

    settings = load_settings(config)
    configure_logging("record", level=settings.log_level)
    connection = connect(settings.redis_url)
    urls = source or list(settings.ingest.sources)
    taps = [make_tap(url, settings, connection, history=history) for url in urls]
    recorder = Recorder(output)
    stop = stop_on_signals()
    typer.echo(f"recording {runs or 'all'} run{'' if runs == 1 else 's'} from {', '.join(urls)} into {output}")
    try:
        _listen(taps, recorder, runs, stop)
    except OSError as error:
        raise ServiceError(f"{output}: {error.strerror}; {recorder.documents} documents are in it") from error
    finally:
        for tap in taps:
            tap.close()
        recorder.close()
        connection.close()
    typer.echo(f"{recorder.documents} documents of {len(recorder.ended)} whole runs in {output}")
    if recorder.without_start:
        typer.echo(f"{recorder.without_start} documents left out: their run had begun before", err=True)
    if recorder.refused:
        typer.echo(f"{recorder.refused} documents left out: they could not be read, or not be written so", err=True)
    for sentence in recorder.gaps:
        typer.echo(f"{sentence}: the recording is not whole", err=True)
    if recorder.gaps:
        raise typer.Exit(EXIT_GAPS)
    if runs and len(recorder.ended) < runs:
        raise typer.Exit(EXIT_INTERRUPTED)


def _listen(taps: Sequence[DocumentSource], recorder: Recorder, runs: int, stop: StopRequest) -> None:
    """Take documents until enough runs have ended or `stop` is set."""
    import redis

    away = False
    reported = 0
    while not stop.is_set() and not (runs and len(recorder.ended) >= runs):
        for tap in taps:
            try:
                received = tap.receive(0.2 / len(taps))
                away = False
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if not away:
                    typer.echo(f"waiting for Redis: {error}", err=True)
                away = True
                stop.wait(0.5)
                continue
            for document in received:
                recorder.record(document.name, document.payload)
                if runs and len(recorder.ended) >= runs:
                    break
        recorder.flush()
        for uid in recorder.ended[reported:]:
            typer.echo(f"run {uid}: ended, {recorder.documents} documents recorded")
        reported = len(recorder.ended)
