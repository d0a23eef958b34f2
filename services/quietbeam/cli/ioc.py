"""`quietbeam ioc`: the simulated instrument behind EPICS, to serve, or to scan from this process."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quietbeam.core.errors import InputError, ServiceError

from .options import Config, Speed, as_arguments, grouped
from .sample import SampleOptions, ScanOptions

if TYPE_CHECKING:
    from quietbeam.beamline.experiment import Experiment
    from quietbeam.beamline.ioc.address import Address


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(ioc)


@grouped
def ioc(
    sample: SampleOptions,
    scan_options: ScanOptions,
    config: Config = None,
    speed: Speed = 1.0,
    scan: Annotated[
        bool,
        typer.Option("--scan", help="Scan it with a RunEngine in this process, then exit."),
    ] = False,
    prefix: Annotated[str, typer.Option(help="Prefix of the process variables.")] = "QB:",
    ca_port: Annotated[
        int | None, typer.Option(help="Channel Access port (default: 5064, or a free port with --scan).")
    ] = None,
) -> None:
    """Serve the simulated instrument over EPICS (Xspress3, motors), and scan it with --scan."""
    from quietbeam.beamline.experiment import Experiment
    from quietbeam.beamline.ioc.address import STANDARD_PORT, Address, free_ca_port, require_epics
    from quietbeam.core.process.log import configure_logging
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings

    settings = load_settings(config)
    configure_logging("ioc", level=settings.log_level)
    if not scan and scan_options != ScanOptions():
        raise InputError("--mode, --repeat, --transport and --truth are options of a scan", remedy="add --scan")
    scan_options.check()
    experiment = Experiment(sample.experiment())
    require_epics()
    address = Address(prefix=prefix, port=free_ca_port(ca_port or (0 if scan else STANDARD_PORT)))
    if ca_port is not None and address.port != ca_port:
        raise InputError(f"port {ca_port} is taken", remedy="choose another one with --ca-port")
    if not scan:
        serve_ioc(experiment, address, speed)
        return
    stop = stop_on_signals()
    start_ioc(sample, address, speed)
    from .publishing import publishing

    with publishing(settings, scan_options.transport) as publish:
        from .scan import make_engine, run_scans

        engine = make_engine(experiment, publish, scan_options.truth)
        folder = settings.data_dir / "detector"
        plans = ioc_plans(scan_options.mode, experiment, address, engine, folder, speed)
        run_scans(engine, experiment, plans, repeat=scan_options.repeat, stop=stop)


def serve_ioc(experiment: Experiment, address: Address, speed: float) -> None:
    """Serve until Ctrl-C or SIGTERM; print the address."""
    from quietbeam.beamline.ioc.server import serve

    variables = " ".join(f"{name}={value}" for name, value in address.client_environment().items())

    def announce() -> None:
        rows, cols = experiment.options.shape
        typer.echo(
            f"IOC: detector {address.detector} ({len(experiment.detectors)} channels), motors {address.slow} (slow) "
            f"and {address.fast} (fast), I0 {address.i0}\n"
            f"sample: {experiment.specimen}, {rows} x {cols} pixels of {experiment.options.step_um:g} um, regions "
            f"{', '.join(experiment.lines)}\n"
            f"clients: export {variables}\n"
            f"         caput {address.detector}det1:Acquire 1; caget {address.detector}MCA1ROI:1:Total_RBV\n"
            "Ctrl-C ends it"
        )
        sys.stdout.flush()

    serve(experiment, address, speed=speed, ready=announce)


def start_ioc(sample: SampleOptions, address: Address, speed: float) -> None:
    """Run the IOC as a child that ends after this process's connections to it; Ctrl-C does not reach it.

    EPICS in this process looks for it alone.

    Raises
    ------
    ServiceError
        The IOC did not start; it has printed why.
    """
    from quietbeam.app.child import PARENT_DEATH

    os.environ.update(address.client_environment())  # before ophyd is imported, which bluesky does
    command = [sys.executable, "-m", "quietbeam", "ioc", *as_arguments(sample)]
    command += [f"--prefix={address.prefix}", f"--ca-port={address.port}", f"--speed={speed}"]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0,
    )
    atexit.register(_end, process)  # before libca registers its own end: that comes first then
    assert process.stdout is not None
    if not process.stdout.readline():
        raise ServiceError("the IOC did not start; its message is above")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def ioc_plans(
    mode: str, experiment: Experiment, address: Address, engine: Any, folder: Path, speed: float
) -> Callable[[], Any]:
    """Connect to the IOC and return a function that makes the plan of one map; the truth is kept beside it.

    Parameters
    ----------
    mode
        ``step``, ``snake`` (ophyd, regions in events) or ``fly`` (ophyd-async, spectra in HDF5).
    """
    from quietbeam.beamline.ioc import plans
    from quietbeam.beamline.ioc.mirror import Mirror

    if mode == "fly":
        from quietbeam.beamline.ioc.async_devices import connect_async

        flying = connect_async(address, folder)
        mirror = Mirror(experiment, flying.sample, flying.slow, flying.fast, flying.detector)
        engine.subscribe(mirror.document)
        return lambda: plans.fly_map(flying, speed=speed)
    from quietbeam.beamline.ioc.devices import connect

    devices = connect(address)
    engine.msg_hook = Mirror(experiment, devices.sample, devices.slow, devices.fast, devices.detector)
    return lambda: plans.step_map(devices, snake=mode == "snake")
