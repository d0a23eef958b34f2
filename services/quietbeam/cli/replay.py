"""`quietbeam replay`: a measured file, or a recording, sent as the documents of a live scan."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quietbeam.core.errors import InputError

from .options import (
    EXIT_INTERRUPTED,
    ChoiceOptions,
    Config,
    InputOptions,
    Speed,
    Transport,
    TransportOption,
    grouped,
    split_lines,
)

if TYPE_CHECKING:
    from quietbeam.core.settings import Settings
    from quietbeam.files import MapFile


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """How the pixels of a measured map become events."""

    grain: Annotated[
        Literal["pixel", "row"], typer.Option("--event", help="One event per pixel, or per row with arrays.")
    ] = "pixel"
    snake: Annotated[
        bool,
        typer.Option(
            help="Send odd rows backwards, as a snaked scan measures them; with --shape, read the points so, too."
        ),
    ] = False
    step: Annotated[float | None, typer.Option(help="Pixel size in um, if the file does not contain it.")] = None


@dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """How a recording is played."""

    as_recorded: Annotated[
        bool, typer.Option("--as-recorded", help="Recordings only: keep uids and times. Default: send it as a new run.")
    ] = False
    files: Annotated[
        list[Path] | None,
        typer.Option("--files", help="Recordings only: folder of the detector files. Default: beside it."),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(replay)


@grouped
def replay(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Measured map: whatever `quietbeam denoise` takes; or a recording: .jsonl, .msgpack, also .gz; or "
            "a run that TiledWriter wrote: tiled+http://HOST:PORT/CATALOG/UID.",
        ),
    ],
    reading: InputOptions,
    choice: ChoiceOptions,
    events: MapOptions,
    recording: RecordingOptions,
    config: Config = None,
    speed: Speed = 1.0,
    transport: TransportOption = "redis",
) -> None:
    """Send a measured file, or a recording, as the documents of a live scan."""
    from quietbeam.core.process.log import configure_logging
    from quietbeam.core.settings import load_settings
    from quietbeam.ingest.documents.recording import is_recording

    settings = load_settings(config)
    configure_logging("replay", level=settings.log_level)
    if source.startswith("tiled+") or ("://" not in source and is_recording(Path(source))):
        if reading.lines or reading.calibration or events != MapOptions() or choice != ChoiceOptions():
            raise InputError(
                f"{source} is a recording, played as it is", remedy="leave out all but --speed and --transport"
            )
        _replay_recording(settings, source, speed, transport, recording)
        return
    if recording != RecordingOptions():
        raise InputError(
            f"{Path(source)} is no recording (.jsonl, .msgpack)", remedy="leave --as-recorded and --files out"
        )
    _replay_map(settings, _read(settings, source, reading, choice, events), speed, transport, events)


def _read(
    settings: Settings, source: str, reading: InputOptions, choice: ChoiceOptions, events: MapOptions
) -> tuple[MapFile, str]:
    from quietbeam.batch.source import errors_showing, read_source

    lines = ["--lines", reading.lines] if reading.lines else []
    with errors_showing(shlex.join(["quietbeam", "replay", source, *lines]), source):
        return read_source(
            source,
            settings,
            lines=split_lines(reading.lines),
            calibration=reading.calibration,
            tiled=reading.tiled,
            fit=reading.fit,
            choice=choice.choice(snake=events.snake if choice.shape else None),
        )


def _replay_map(
    settings: Settings, source: tuple[MapFile, str], speed: float, transport: Transport, events: MapOptions
) -> None:
    from quietbeam.batch.source import remarks_of
    from quietbeam.beamline.replay import replay_documents

    from .publishing import publishing

    read, label = source
    for remark in remarks_of(read):
        typer.echo(remark, err=True)
    measured = read.line_map(label)
    rows, cols = measured.info.shape
    dwell = measured.info.dwell_s or 0.0
    typer.echo(
        f"{label}: {rows} x {cols} pixels, {len(measured.info.detectors)} detectors, "
        f"lines {', '.join(measured.lines)}; "
        f"{rows * cols * dwell / speed if speed else 0:.0f} s at speed {speed:g}"
    )
    with publishing(settings, transport) as publish:
        documents = replay_documents(measured, grain=events.grain, snake=events.snake, step_um=events.step)
        _play(documents, publish, speed, f"{rows} x {cols} pixels, replay of {label}")


def _replay_recording(
    settings: Settings, name: str, speed: float, transport: Transport, options: RecordingOptions
) -> None:
    from quietbeam.ingest.documents.playback import paced, renewed
    from quietbeam.ingest.documents.recording import read_recording, relocate
    from quietbeam.ingest.transports import read_tiled

    from .publishing import publishing

    if name.startswith("tiled+"):
        documents, broken = read_tiled(name, settings)
        arrived: list[float | None] = [None] * len(documents)
        folders = options.files or []
    else:
        recording = read_recording(Path(name))
        documents, arrived, broken = recording.documents, recording.arrived, recording.broken
        folders = options.files or [Path(name).parent]
    documents = relocate(documents, [folder.resolve() for folder in folders])
    timed = list(paced(documents if options.as_recorded else renewed(documents), arrived))
    name = name.rpartition("/")[2]
    seconds = sum(pause for _, _, pause in timed)
    took = f"{seconds / speed:.0f} s at speed {speed:g}" if speed else "as fast as possible"
    typer.echo(f"{name}: {len(timed)} documents, {took}")
    if broken:
        typer.echo(f"{name}: {broken}", err=True)
    with publishing(settings, transport) as publish:
        _play(timed, publish, speed, f"replay of {name}")


def _play(
    documents: Iterable[tuple[str, Any, float]], publish: Callable[[str, Any], Any], speed: float, title: str
) -> None:
    """Send documents with their pauses [s] until the end or a signal, and print what was sent."""
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.ingest.documents.playback import play

    stop = stop_on_signals()

    def send(name: str, doc: Any) -> None:
        if name == "start":
            typer.echo(f"run {doc.get('uid')}: {title}")
        publish(name, doc)

    sent = play(documents, send, speed=speed, stop=stop)
    typer.echo(f"sent {', '.join(f'{n} {name}' for name, n in sent.items())}")
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
