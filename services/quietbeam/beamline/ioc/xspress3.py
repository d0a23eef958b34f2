"""The Xspress3: acquisition, spectra, regions, scalers and time series, with the names of the released IOC.

Names follow epics-modules/xspress3 as nslsii's ``build_xspress3_class`` uses them: driver below ``det1:``, spectra
``MCA1:ArrayData``, regions ``MCA1ROI:1:Total_RBV``, scalers ``C1SCA:0:Value_RBV``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import InputError

from ..experiment import Experiment, Frame
from .records import LongStr, Records
from .series import Regions
from .spectra import CHANNELS, Spectrometer

CLOCK_HZ = 80e6
TRIGGER_MODES = ("Software", "Internal", "IDC", "TTL Veto Only", "TTL Both", "LVDS Veto Only", "LVDS Both")
STATES = (
    "Idle", "Acquire", "Readout", "Correct", "Saving", "Aborting", "Error", "Waiting", "Initializing", "Disconnected",
    "Aborted",
)  # fmt: skip
DATA_TYPES = ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float32", "Float64")
COLOR_MODES = ("Mono", "Bayer", "RGB1", "RGB2", "RGB3", "YUV444", "YUV422", "YUV421")
NO_YES = ("No", "Yes")
DISABLE_ENABLE = ("Disable", "Enable")
SCALERS = (
    "clock ticks", "reset ticks", "reset counts", "all events", "good events", "window 1", "window 2", "pileup",
    "event width", "dead-time factor", "dead time in percent",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One exposure as it leaves the detector.

    Attributes
    ----------
    spectra
        (detector, channel) counts.
    dead_percent
        (detector,) percent of the exposure.
    slow, fast
        Positions in um.
    """

    frame: Frame
    spectra: npt.NDArray[np.int32]
    dead_percent: npt.NDArray[np.float64]
    slow: float
    fast: float


class Xspress3:
    """The driver. Hardware triggers come from :meth:`pulse`, at the pixels that the fast axis crosses.

    Parameters
    ----------
    where
        Returns (row, col, slow position, fast position) of the beam.
    speed
        1 keeps exposures in real time, 10 ten times faster, 0 as fast as possible.
    deliver
        Takes every shot before it counts as acquired: the file writer.
    """

    def __init__(
        self,
        records: Records,
        experiment: Experiment,
        where: Callable[[], tuple[int, int, float, float]],
        i0: Any,
        deliver: Callable[[Shot], Awaitable[None]],
        *,
        speed: float = 1.0,
        attributes: str = "",
    ) -> None:
        self._experiment, self._where, self._i0, self._deliver, self._speed = experiment, where, i0, deliver, speed
        self._spectrometer = Spectrometer(experiment)
        self._task: asyncio.Task[None] | None = None
        self._pulses: asyncio.Queue[tuple[int, int, float, float]] = asyncio.Queue()
        detectors = len(experiment.detectors)
        self._sum = np.zeros((detectors, CHANNELS), np.int64)
        self._make_driver(records.below("det1:"), attributes)
        self._mca = [records.add(f"MCA{d}:ArrayData", np.zeros(CHANNELS, np.int32)) for d in range(1, detectors + 1)]
        self._mca_sum = [
            records.add(f"MCASUM{d}:ArrayData", np.zeros(CHANNELS, np.int32)) for d in range(1, detectors + 1)
        ]
        for d in range(1, detectors + 1):
            records.show(f"MCA{d}:ArrayData.EGU", "counts")
            records.show(f"MCASUM{d}:ArrayData.EGU", "counts")
        windows = self._spectrometer.windows
        self._regions = [Regions(records.below(f"MCA{d}ROI:"), windows) for d in range(1, detectors + 1)]
        self._scalers = [
            [records.show(f"C{d}SCA:{m}:Value_RBV", 0.0) for m in range(len(SCALERS))] for d in range(1, detectors + 1)
        ]

    def _make_driver(self, cam: Records, attributes: str) -> None:
        detectors = len(self._experiment.detectors)
        self._cam = cam
        cam.pair("Acquire", "Done", self._put_acquire, choices=("Done", "Acquire"))
        cam.pair("AcquireTime", self._experiment.options.dwell_s, self._positive)
        cam.pair("AcquirePeriod", self._experiment.options.dwell_s, self._positive)
        cam.pair("NumImages", 1, self._positive)
        cam.pair("NumExposures", 1)
        cam.pair("ImageMode", "Multiple", choices=("Single", "Multiple", "Continuous"))
        cam.pair("TriggerMode", "Internal", choices=TRIGGER_MODES)
        cam.pair("ArrayCounter", 0)
        cam.pair("ArrayCallbacks", "Enable", choices=DISABLE_ENABLE)
        cam.add("WaitForPlugins", "Yes", choices=NO_YES)
        cam.show("DetectorState_RBV", "Idle", choices=STATES)
        cam.show("StatusMessage_RBV", LongStr("Ready"))
        cam.show("NumImagesCounter_RBV", 0)
        cam.show("FRAME_COUNT_RBV", 0)
        cam.add("ERASE", "Done", self._put_erase, choices=("Done", "Erase"))
        cam.add("TRIGGER", "Do Nothing", self._put_trigger, choices=("Do Nothing", "Trigger"))
        cam.pair("NUM_CHANNELS", detectors)
        cam.show("MAX_NUM_CHANNELS_RBV", detectors)
        cam.pair("MAX_SPECTRA", CHANNELS)
        cam.pair("NUM_FRAMES_CONFIG", 16384)
        cam.show("MAX_FRAMES_RBV", 16384)
        cam.show("MAX_FRAMES_DRIVER_RBV", 16384)
        cam.show("NUM_CARDS_RBV", 1)
        cam.pair("CTRL_DTC", "Disable", choices=DISABLE_ENABLE)
        cam.add("NAME", "quietbeam simulation")
        cam.add("CONNECT", 0)
        cam.add("DISCONNECT", 0)
        cam.show("CONNECTED", "Connected", choices=("Disconnected", "Connected"))
        for name in ("CONFIG_PATH", "CONFIG_SAVE_PATH"):
            cam.pair(name, LongStr())
        for name in ("INVERT_F0", "INVERT_VETO", "DEBOUNCE", "RUN_FLAGS"):
            cam.pair(name, 0)
        for name in ("RESET", "SAVE_SETTINGS", "RESTORE_SETTINGS"):
            cam.add(name, 0)
        describe_array(cam, detectors, "XSP3", attributes)
        for name, text in (
            ("Manufacturer", "quietbeam"), ("Model", "Xspress3 (simulated)"), ("SerialNumber", "0"),
            ("SDKVersion", "0"), ("FirmwareVersion", "0"),
        ):  # fmt: skip
            cam.show(f"{name}_RBV", text)

    @staticmethod
    async def _positive(value: float) -> None:
        if not value > 0:
            raise InputError(f"{value:g} must be above 0")

    # -- acquisition ------------------------------------------------------------------------------------------------

    async def _put_acquire(self, value: str) -> str:
        """Start and wait, so that a put with completion ends with the acquisition; or stop."""
        running = self._task is not None and not self._task.done()
        if value == "Acquire":
            if not running:
                self._pulses = asyncio.Queue()
                self._task = asyncio.create_task(self._acquire())
            assert self._task is not None
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()
        elif running:
            assert self._task is not None
            self._task.cancel()
            await asyncio.wait({self._task})
        return "Done"

    async def _acquire(self) -> None:
        cam, mode = self._cam, self._cam["TriggerMode"].value
        wanted = {"Single": 1, "Multiple": cam["NumImages"].value}.get(cam["ImageMode"].value, 0)
        state = "Idle"
        try:
            await cam["FRAME_COUNT_RBV"].show(0)
            await cam["NumImagesCounter_RBV"].show(0)
            await cam["DetectorState_RBV"].show("Acquire" if mode == "Internal" else "Waiting")
            await cam["Acquire"].show("Acquire")  # from here on pulses count
            acquired = 0
            while not wanted or acquired < wanted:
                if mode == "Internal":
                    await asyncio.sleep(cam["AcquireTime"].value / self._speed if self._speed else 0)
                    place = self._where()
                else:
                    place = await self._pulses.get()
                await self._expose(*place)
                acquired += 1
                await cam["FRAME_COUNT_RBV"].show(acquired)
                await cam["NumImagesCounter_RBV"].show(acquired)
        except asyncio.CancelledError:
            state = "Aborted"
            raise
        except Exception:
            state = "Error"
            raise
        finally:
            await cam["DetectorState_RBV"].show(state)
            await cam["Acquire"].show("Done")

    async def pulse(self, row: int, col: int, slow: float, fast: float) -> None:
        """Take a hardware trigger; it counts only while the detector waits for such."""
        if self._task is not None and not self._task.done() and self._cam["TriggerMode"].value not in TRIGGER_MODES[:2]:
            self._pulses.put_nowait((row, col, slow, fast))

    async def _put_trigger(self, value: str) -> str:
        if value == "Trigger" and self._cam["TriggerMode"].value == "Software":
            self._pulses.put_nowait(self._where())
        return "Do Nothing"

    async def _put_erase(self, _value: str) -> str:
        self._sum[...] = 0
        empty = np.zeros(CHANNELS, np.int32)
        for record in (*self._mca, *self._mca_sum):
            await record.show(empty)
        for regions in self._regions:
            await regions.add_spectrum(empty)
        return "Done"

    async def _expose(self, row: int, col: int, slow: float, fast: float) -> None:
        """Measure, show everything, hand the shot to the file writer; the array counter comes last."""
        seconds = float(self._cam["AcquireTime"].value)
        exposure = seconds / self._experiment.options.dwell_s
        frame = self._experiment.measure(row, col, exposure=exposure)
        spectra = self._spectrometer.spectra(frame, exposure)
        live = frame.live_time_s / seconds
        dead = 100.0 * (1.0 - live)
        self._sum += spectra
        for d, regions in enumerate(self._regions):
            await self._mca[d].show(spectra[d])
            await self._mca_sum[d].show(self._sum[d])
            await regions.add_spectrum(spectra[d])
            events = float(spectra[d].sum())
            values = (seconds * CLOCK_HZ, 0, 0, events, events, 0, 0, 0, 6, 1 / live[d], dead[d])
            for record, value in zip(self._scalers[d], values, strict=True):
                await record.show(float(value))
        await self._i0.show(frame.i0)
        await self._deliver(Shot(frame=frame, spectra=spectra, dead_percent=dead, slow=slow, fast=fast))
        await self._cam["ArrayCounter"].show(self._cam["ArrayCounter"].value + 1)


def describe_array(records: Records, detectors: int, port: str, attributes: str) -> None:
    """Make what driver and plugin both say of their arrays: (detector, channel) of 32-bit integers."""
    records.show("PortName_RBV", port)
    records.show("ADCoreVersion_RBV", "3.12.1")
    records.show("DriverVersion_RBV", "3.2.0")
    records.show("UniqueId_RBV", 0)
    records.add("NDAttributesFile", LongStr(attributes))
    for name, size in zip("XYZ", (CHANNELS, detectors, 0), strict=True):
        records.show(f"ArraySize{name}_RBV", size)
    for axis, size in enumerate((CHANNELS, detectors, 0)):
        records.show(f"ArraySize{axis}_RBV", size)
        records.show(f"ArraySize{axis}", size)
    records.show("ArraySize_RBV", 4 * CHANNELS * detectors)
    records.show("NDimensions_RBV", 2)
    records.show("ColorMode_RBV", "Mono", choices=COLOR_MODES)
    records.show("DataType_RBV", "UInt32", choices=DATA_TYPES)
