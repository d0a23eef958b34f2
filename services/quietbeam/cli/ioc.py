"""The IOC behind `quietbeam simulate --ioc`: served here, or as a child that a scan in this process drives."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from quietbeam.beamline.experiment import Experiment, ExperimentOptions
    from quietbeam.beamline.ioc.address import Address


def serve_ioc(experiment: Experiment, address: Address, speed: float) -> None:
    """Serve until Ctrl-C or SIGTERM, saying where."""
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


def start_ioc(options: ExperimentOptions, address: Address, speed: float) -> None:
    """Run the IOC as a child that ends after this process's connections to it; Ctrl-C does not reach it.

    EPICS in this process looks for it alone.

    Raises
    ------
    ServiceError
        It did not start; it has said why.
    """
    from quietbeam.app.child import TETHER
    from quietbeam.core.errors import ServiceError

    os.environ.update(address.client_environment())  # before ophyd is imported, which bluesky does
    rows, cols = options.shape
    arguments: dict[str, Any] = {
        "prefix": address.prefix,
        "ca-port": address.port,
        "speed": speed,
        "specimen": options.specimen,
        "shape": f"{rows}x{cols}",
        "dwell": options.dwell_s,
        "detectors": options.detectors,
        "lines": ",".join(options.lines),
        "flux": options.flux,
        "dead-time": options.dead_time_s,
        "seed": options.seed,
        **({"counts": options.counts} if options.counts is not None else {}),
    }
    command = [sys.executable, "-m", "quietbeam", "simulate", "--ioc", "--serve-only"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    command += ["--paralyzable"] if options.paralyzable else []
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command],
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


def ioc_plans(mode: str, experiment: Experiment, address: Address, engine: Any, folder: Path, speed: float) -> Any:
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
