"""`quietbeam simulate` and `quietbeam replay`: scans without a beamline, sent the way a beamline sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from quietbeam.beamline.experiment import Experiment
    from quietbeam.core.settings import Settings

Transport = Literal["redis", "zmq", "none"]
Config = Annotated[str | None, typer.Option("-c", "--config", help="YAML file or name of a shipped config.")]
Speed = Annotated[float, typer.Option(min=0, help="1 keeps the dwell in real time; 0 goes as fast as possible.")]
To = Annotated[Transport, typer.Option("--transport", help="How documents are sent; none: counted only.")]

DEFAULT_LINES = "P_Ka,S_Ka,Cl_Ka,K_Ka,Ca_Ka,Fe_Ka,Cu_Ka,Zn_Ka"
EXIT_ABORTED = 130


@contextmanager
def _publisher(settings: Settings, transport: Transport) -> Iterator[Callable[[str, Any], Any]]:
    """Yield the callback that sends documents; on the way out everything is sent, or stays in the spool."""
    from quietbeam.core.errors import InputError

    if transport == "none":
        yield lambda _name, _doc: None
        return
    from quietbeam.runengine.publisher import RedisPublisher, zmq_publisher

    if transport == "zmq":
        if not settings.embedded.zmq_in:
            raise InputError("embedded.zmq_in is not set: give the in side of the 0MQ proxy in the config")
        publisher = zmq_publisher(settings.embedded.zmq_in)
        try:
            yield publisher
        finally:
            publisher.close()
        return
    spooling = RedisPublisher(settings.redis_url, spool_dir=settings.data_dir / "spool")
    try:
        yield spooling
    finally:
        if not spooling.close(15.0):
            stats = spooling.stats()
            typer.echo(
                f"Redis at {settings.redis_url} does not answer: {stats.spooled_bytes} bytes of documents wait in "
                f"{settings.data_dir / 'spool'}, {stats.dropped} documents were dropped",
                err=True,
            )


def map_shape(text: str) -> tuple[int, int]:
    """Read rows and columns, "64x48".

    Raises
    ------
    InputError
        It is not of that form.
    """
    from quietbeam.core.errors import InputError

    rows, _, cols = text.lower().partition("x")
    if not (rows.isdecimal() and cols.isdecimal()):
        raise InputError(f"shape {text!r}: write ROWSxCOLS, as 64x64")
    return int(rows), int(cols)


def _scan(engine: Any, plan: Any) -> bool:
    """Run one plan; an interruption (Ctrl-C, SIGTERM) aborts it at the next checkpoint. True when it went through."""
    import os
    import signal

    from bluesky.utils import RunEngineInterrupted

    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        engine(plan)
    except RunEngineInterrupted:
        if engine.state == "paused":
            engine.abort(reason="interrupted at the terminal")
        return False
    return True


def _engine(*callbacks: Callable[[str, Any], Any]) -> Any:
    """Return a RunEngine that sends its documents to the callbacks and keeps quiet when it is interrupted."""
    from bluesky import RunEngine

    engine = RunEngine({})
    engine.pause_msg = ""
    engine.log.logger.setLevel("CRITICAL")  # an interruption is no traceback
    for callback in callbacks:
        engine.subscribe(callback)
    return engine


def _scans(engine: Any, experiment: Experiment, repeat: int, make: Callable[[], Any]) -> None:
    """Run the plan `repeat` times (0: until interrupted)."""
    from itertools import count

    for _ in range(repeat) if repeat else count():
        experiment.start_over()
        if not _scan(engine, make()):
            raise typer.Exit(EXIT_ABORTED)


def _announce(experiment: Experiment, truth: Path | None, uids: list[str]) -> Callable[[str, Any], None]:
    """Return a callback that names each run and keeps its truth when it ends."""
    from quietbeam.beamline.truth import truth_path

    def callback(name: str, doc: Any) -> None:
        if name == "start":
            uids.append(doc["uid"])
            rows, cols = doc["shape"]
            typer.echo(f"run {doc['uid']}: {rows} x {cols} pixels, {doc['plan_name']}, {doc['sample']['name']}")
        elif name == "stop":
            if truth is not None:
                experiment.truth(uids[-1]).save(truth_path(truth, uids[-1]))
            typer.echo(f"run {uids[-1]}: {doc['exit_status']}, {doc['num_events'].get('primary', 0)} frames")

    return callback


def _replay_recording(
    settings: Settings, name: str, speed: float, transport: Transport, files: list[Path] | None, *, as_recorded: bool
) -> None:
    from quietbeam.ingest.documents.recording import paced, read_recording, relocate, renewed
    from quietbeam.ingest.transports import read_tiled

    if name.startswith("tiled+"):
        documents, broken = read_tiled(name, settings)
        arrived: list[float | None] = [None] * len(documents)
        folders = files or []
    else:
        recording = read_recording(Path(name))
        documents, arrived, broken = recording.documents, recording.arrived, recording.broken
        folders = files or [Path(name).parent]
    documents = relocate(documents, [folder.resolve() for folder in folders])
    timed = list(paced(documents if as_recorded else renewed(documents), arrived))
    name = name.rpartition("/")[2]
    seconds = sum(pause for _, _, pause in timed)
    took = f"{seconds / speed:.0f} s at speed {speed:g}" if speed else "as fast as possible"
    typer.echo(f"{name}: {len(timed)} documents, {took}")
    if broken:
        typer.echo(f"{name}: {broken}", err=True)
    with _publisher(settings, transport) as publish:
        _play(timed, publish, speed, f"replay of {name}")


def _play(
    documents: Iterable[tuple[str, Any, float]], publish: Callable[[str, Any], Any], speed: float, what: str
) -> None:
    """Send documents with their pauses [s] until the end or a signal, and say what was sent."""
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.ingest.documents.recording import play

    stop = stop_on_signals()

    def send(name: str, doc: Any) -> None:
        if name == "start":
            typer.echo(f"run {doc.get('uid')}: {what}")
        publish(name, doc)

    sent = play(documents, send, speed=speed, stop=stop)
    typer.echo(f"sent {', '.join(f'{n} {name}' for name, n in sent.items())}")
    if stop.is_set():
        raise typer.Exit(EXIT_ABORTED)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""

    @app.command()
    def simulate(
        config: Config = None,
        specimen: Annotated[str, typer.Option(help="cell (frozen cell) or star (Siemens star).")] = "cell",
        shape: Annotated[str, typer.Option(help="Map size, ROWSxCOLS.")] = "64x64",
        dwell: Annotated[float, typer.Option(help="Seconds per pixel.")] = 0.005,
        detectors: Annotated[int, typer.Option(help="Number of detector elements.")] = 4,
        lines: Annotated[str, typer.Option(help="Comma-separated emission lines.")] = DEFAULT_LINES,
        flux: Annotated[float, typer.Option(help="Relative flux (1.0 = 2e11 photons/s).")] = 1.0,
        counts: Annotated[
            float | None,
            typer.Option(help="Mean counts per pixel of a typical line in the detector sum; wins over --flux."),
        ] = None,
        mode: Annotated[
            Literal["step", "snake", "fly"],
            typer.Option(help="step raster, snaked raster, or fly scan row by row into an HDF5 file."),
        ] = "snake",
        speed: Speed = 1.0,
        burst: Annotated[
            int | None,
            typer.Option(help="Fly scan: announce about so many frames at once, aligned with no row (default: rows)."),
        ] = None,
        dead_time: Annotated[float, typer.Option(help="Dead time per photon in seconds.")] = 1e-6,
        paralyzable: Annotated[bool, typer.Option(help="Paralyzable electronics.")] = False,
        seed: Annotated[int, typer.Option(min=0, help="Same seed, same specimen, gains and counts.")] = 0,
        repeat: Annotated[int, typer.Option(min=0, help="Number of runs; 0 until interrupted.")] = 1,
        transport: To = "redis",
        truth: Annotated[
            Path | None,
            typer.Option(help="Keep the truth: an .npz file, or a folder that gets UID.npz for each run."),
        ] = None,
        ioc: Annotated[
            bool, typer.Option("--ioc", help="Scan an EPICS IOC (Xspress3, motors) that is started for it.")
        ] = False,
        serve_only: Annotated[
            bool, typer.Option("--serve-only", help="With --ioc: leave the IOC to other clients, scan nothing.")
        ] = False,
        prefix: Annotated[str, typer.Option(help="With --ioc: prefix of the process variables.")] = "QB:",
        ca_port: Annotated[
            int | None, typer.Option(help="With --ioc: Channel Access port (default: 5064, or a free one for a scan).")
        ] = None,
    ) -> None:
        """Scan a simulated specimen with a real RunEngine in this process."""
        from quietbeam.beamline.experiment import Experiment, ExperimentOptions
        from quietbeam.core.errors import InputError
        from quietbeam.core.process.log import configure_logging
        from quietbeam.core.settings import load_settings

        settings = load_settings(config)
        configure_logging("simulate", level=settings.log_level)
        if truth is not None and truth.suffix == ".npz" and repeat != 1:
            raise InputError(f"--truth {truth} would be overwritten by each run: give a folder")
        options = ExperimentOptions(
            specimen=specimen,
            lines=tuple(line.strip() for line in lines.split(",") if line.strip()),
            shape=map_shape(shape),
            dwell_s=dwell,
            detectors=detectors,
            flux=flux,
            counts=counts,
            dead_time_s=dead_time,
            paralyzable=paralyzable,
            seed=seed,
        )
        experiment = Experiment(options)
        if serve_only and not ioc:
            raise InputError("--serve-only belongs to --ioc: quietbeam simulate --ioc --serve-only")
        if not ioc:
            with _publisher(settings, transport) as publish:
                engine = _engine(publish, _announce(experiment, truth, []))
                from quietbeam.beamline.plans import make_plan

                folder = settings.data_dir / "detector"
                _scans(
                    engine,
                    experiment,
                    repeat,
                    lambda: make_plan(mode, experiment, speed=speed, folder=folder, burst=burst),
                )
            return
        from quietbeam.beamline.ioc.address import STANDARD_PORT, Address, free_ca_port, require_epics

        from .ioc import ioc_plans, serve_ioc, start_ioc

        require_epics()
        address = Address(prefix=prefix, port=free_ca_port(ca_port or (STANDARD_PORT if serve_only else 0)))
        if ca_port is not None and address.port != ca_port:
            raise InputError(f"port {ca_port} is taken: choose another one with --ca-port")
        if serve_only:
            serve_ioc(experiment, address, speed)
            return
        start_ioc(options, address, speed)
        with _publisher(settings, transport) as publish:
            engine = _engine(publish, _announce(experiment, truth, []))
            folder = settings.data_dir / "detector"
            _scans(engine, experiment, repeat, ioc_plans(mode, experiment, address, engine, folder, speed))

    @app.command()
    def replay(
        source: Annotated[
            str,
            typer.Argument(
                metavar="INPUT",
                help="Measured map: whatever `quietbeam denoise` takes; or a recording: .jsonl, .msgpack, also .gz; or "
                "a run that TiledWriter wrote: tiled+http://HOST:PORT/CATALOG/UID.",
            ),
        ],
        config: Config = None,
        lines: Annotated[
            str | None,
            typer.Option(help="Comma-separated lines to cut out of spectra; default: every line with a peak."),
        ] = None,
        calibration: Annotated[
            Path | None, typer.Option(help="JSON with (offset, width) in keV for each detector.")
        ] = None,
        speed: Speed = 1.0,
        grain: Annotated[
            Literal["pixel", "row"], typer.Option("--event", help="One event per pixel, or per row with arrays.")
        ] = "pixel",
        snake: Annotated[bool, typer.Option(help="Send odd rows backwards, as a snaked scan measures them.")] = False,
        step: Annotated[float | None, typer.Option(help="Pixel size in um, where the file does not say it.")] = None,
        as_recorded: Annotated[
            bool, typer.Option("--as-recorded", help="A recording: keep its uids and times; default: a new run, now.")
        ] = False,
        files: Annotated[
            list[Path] | None,
            typer.Option("--files", help="A recording: folder of its detector files; default: beside it."),
        ] = None,
        transport: To = "redis",
        tiled: Annotated[str, typer.Option(help="Tiled, or a catalog in it, that has the uid.")] = "",
        fit: Annotated[bool, typer.Option("--fit", help="Fit spectra (PyMca) instead of summing windows.")] = False,
    ) -> None:
        """Send a measured file, or a recording, as the documents of a live scan."""
        from quietbeam.core.errors import InputError
        from quietbeam.core.process.log import configure_logging
        from quietbeam.core.settings import load_settings
        from quietbeam.ingest.documents.recording import is_recording

        settings = load_settings(config)
        configure_logging("replay", level=settings.log_level)
        file = Path(source)
        if source.startswith("tiled+") or ("://" not in source and is_recording(file)):
            if lines or calibration or snake or step is not None or grain != "pixel":
                raise InputError(f"{source} is a recording, played as it is: leave out all but --speed and --transport")
            _replay_recording(settings, source, speed, transport, files, as_recorded=as_recorded)
            return
        if as_recorded or files:
            raise InputError(f"{file} is no recording (.jsonl, .msgpack): leave --as-recorded and --files out")
        from quietbeam.beamline.replay import replay_documents

        from .source import read_source

        asked = [line.strip() for line in lines.split(",") if line.strip()] if lines else []
        read, label = read_source(source, settings, lines=asked, calibration=calibration, tiled=tiled, fit=fit)
        if read.remark:
            typer.echo(read.remark, err=True)
        measured = read.line_map(label)
        rows, cols = measured.info.shape
        dwell = measured.info.dwell_s or 0.0
        typer.echo(
            f"{label}: {rows} x {cols} pixels, {len(measured.info.detectors)} detectors, "
            f"lines {', '.join(measured.lines)}; "
            f"{rows * cols * dwell / speed if speed else 0:.0f} s at speed {speed:g}"
        )
        with _publisher(settings, transport) as publish:
            documents = replay_documents(measured, grain=grain, snake=snake, step_um=step)
            _play(documents, publish, speed, f"{rows} x {cols} pixels, replay of {label}")
