"""The IOC as one process: everything that there is, and how it is run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from quietbeam.core.process.stop import on_first_signal

from ..devices import Stages
from ..experiment import Experiment
from .address import Address
from .hdf5 import HDF5Plugin, attributes_xml
from .motor import Motor
from .records import LongStr, Records
from .xspress3 import Xspress3

RUN_UP = 2.0
"""Pixels that the stages can go beyond the map."""


class Ioc:
    """The simulated beamline as process variables (``pvdb``).

    The sample is described too, so that a client knows what to scan: ``Sample:Rows`` and so on.
    """

    def __init__(self, experiment: Experiment, address: Address, *, speed: float = 1.0) -> None:
        self.pvdb: dict[str, Any] = {}
        records = Records(self.pvdb, address.prefix)
        options = experiment.options
        self._shape, self._step = options.shape, options.step_um
        (self._slow_low, slow_high), (self._fast_low, fast_high) = Stages(options.shape, options.step_um).extents
        beyond = RUN_UP * options.step_um
        names = (address.slow.removeprefix(address.prefix), address.fast.removeprefix(address.prefix))
        self._slow = Motor(
            records, names[0], self._slow_low, self._slow_low - beyond, slow_high + beyond, self._slow_travelled
        )
        self._fast = Motor(
            records, names[1], self._fast_low, self._fast_low - beyond, fast_high + beyond, self._fast_travelled
        )
        i0 = records.show(address.i0.removeprefix(address.prefix), 0)
        detector = records.below(address.detector.removeprefix(address.prefix))
        attributes = attributes_xml(address)
        self._writer = HDF5Plugin(detector.below("HDF1:"), options.detectors, attributes)
        self._detector = Xspress3(
            detector, experiment, self._where, i0, self._writer.write, speed=speed, attributes=attributes
        )
        sample = records.below("Sample:")
        sample.show("Name", experiment.specimen)
        sample.show("Rows", options.shape[0])
        sample.show("Cols", options.shape[1])
        sample.show("StepUm", options.step_um)
        sample.show("DwellS", options.dwell_s)
        sample.show("Lines", LongStr(",".join(experiment.lines)))

    def _pixel(self, slow: float, fast: float) -> tuple[int, int]:
        row, col = (
            int(np.clip(round((position - low) / self._step), 0, n - 1))
            for position, low, n in zip((slow, fast), (self._slow_low, self._fast_low), self._shape, strict=True)
        )
        return row, col

    def _where(self) -> tuple[int, int, float, float]:
        slow, fast = self._slow.position, self._fast.position
        return (*self._pixel(slow, fast), slow, fast)

    async def _slow_travelled(self, before: float, now: float) -> None:
        """The slow axis triggers nothing."""

    async def _fast_travelled(self, before: float, now: float) -> None:
        """Trigger the detector at every pixel centre that was passed, in order, as a position compare does."""
        centres = self._fast_low + self._step * np.arange(self._shape[1])
        passed = np.flatnonzero((centres > min(before, now)) & (centres < max(before, now)) | (centres == now))
        slow = self._slow.position
        for col in passed if now > before else passed[::-1]:
            await self._detector.pulse(self._pixel(slow, 0.0)[0], int(col), slow, float(centres[col]))


def serve(experiment: Experiment, address: Address, *, speed: float = 1.0, ready: Callable[[], None]) -> None:
    """Run the IOC in this process, on loopback, until SIGINT or SIGTERM.

    Parameters
    ----------
    ready
        Called once clients can connect.
    """
    os.environ.update(address.server_environment())
    from caproto import set_handler
    from caproto.asyncio.server import start_server

    set_handler(level="CRITICAL")  # writes that are refused are logged in one line by the records

    async def started(_library: Any) -> None:
        ready()

    async def run() -> None:
        # the records hold asyncio objects of this loop
        server = asyncio.create_task(
            start_server(Ioc(experiment, address, speed=speed).pvdb, interfaces=["127.0.0.1"], startup_hook=started)
        )
        handler = on_first_signal(lambda _: server.cancel())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, lambda: handler(signal.SIGTERM, None))
        with suppress(asyncio.CancelledError):
            await server

    asyncio.run(run())
