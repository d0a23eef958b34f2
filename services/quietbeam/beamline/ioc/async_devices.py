"""ophyd-async devices for the IOC: an Xspress3 whose HDF5 plugin writes rows of spectra, and motor records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated as A

from ophyd_async.core import (
    DetectorTrigger,
    DetectorTriggerLogic,
    SignalDict,
    SignalRW,
    StaticPathProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    StrictEnum,
    TriggerInfo,
    UUIDFilenameProvider,
    init_devices,
)
from ophyd_async.epics.adcore import (
    ADAcquireLogic,
    ADBaseIO,
    ADHDFDataLogic,
    ADWriterFactory,
    AreaDetector,
    NDFileHDF5IO,
    prepare_exposures,
)
from ophyd_async.epics.core import PvSuffix
from ophyd_async.epics.motor import Motor

from .address import Address
from .devices import Sample, read_sample
from .hdf5 import DEAD_PERCENT


class TriggerMode(StrictEnum):
    """Of the Xspress3's driver."""

    SOFTWARE = "Software"
    INTERNAL = "Internal"
    IDC = "IDC"
    TTL_VETO_ONLY = "TTL Veto Only"
    TTL_BOTH = "TTL Both"
    LVDS_VETO_ONLY = "LVDS Veto Only"
    LVDS_BOTH = "LVDS Both"


class Xspress3IO(ADBaseIO):
    """areaDetector's driver, and what the Xspress3 adds."""

    trigger_mode: A[SignalRW[TriggerMode], PvSuffix.rbv("TriggerMode")]


@dataclass
class Xspress3TriggerLogic(DetectorTriggerLogic):
    """Internal exposures, or gates at the TTL input."""

    driver: Xspress3IO

    def get_deadtime(self, config_values: SignalDict) -> float:
        """Return the time between frames, whatever the settings."""
        del config_values
        return 0.0

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        """Take `num` exposures in a row."""
        await self.driver.trigger_mode.set(TriggerMode.INTERNAL)
        await prepare_exposures(self.driver, num, livetime, deadtime)

    async def prepare_level(self, num: int) -> None:
        """Take an exposure per gate."""
        await self.driver.trigger_mode.set(TriggerMode.TTL_VETO_ONLY)
        await prepare_exposures(self.driver, num)

    async def default_trigger_info(self) -> TriggerInfo:
        """Return one internal exposure."""
        return TriggerInfo()


@dataclass
class Xspress3DataLogic(ADHDFDataLogic):
    """areaDetector's HDF5 with the dead times that this IOC keeps beside the spectra."""

    async def prepare_unbounded(self, datakey_name: str) -> StreamResourceDataProvider:
        """Open the file; announce spectra, NDAttributes and dead times."""
        provider = await super().prepare_unbounded(datakey_name)
        assert isinstance(provider, StreamResourceDataProvider) and self.driver is not None
        channels = await self.driver.array_size_y.get_value()
        dead = StreamResourceInfo(
            data_key=f"{datakey_name}-dead_percent",
            shape=(channels,),
            chunk_shape=(256, channels),
            dtype_numpy="<f8",
            parameters={"dataset": DEAD_PERCENT},
        )
        return StreamResourceDataProvider(
            uri=provider.uri,
            resources=[*provider.resources, dead],
            mimetype="application/x-hdf5",
            collections_written_signal=provider.collections_written_signal,
            flush_signal=provider.flush_signal,
        )


class Xspress3(AreaDetector[Xspress3IO]):
    """StandardDetector of the IOC's Xspress3; its file goes to `folder`."""

    def __init__(self, prefix: str, folder: Path, name: str = "") -> None:
        driver = Xspress3IO(f"{prefix}det1:")
        provider = StaticPathProvider(UUIDFilenameProvider(), folder)
        writer = ADWriterFactory(
            writer_cls=NDFileHDF5IO,
            writer_suffix="HDF1:",
            writer_name="hdf",
            datakey_suffix="",
            array_description=None,
            data_logic_factory=lambda writer, description, driver, plugins: Xspress3DataLogic(
                array_description=description, path_provider=provider, writer=writer, driver=driver, plugins=plugins
            ),
        )
        super().__init__(
            driver,
            prefix,
            writer,
            acquire_logic=ADAcquireLogic(driver),
            trigger_logic=Xspress3TriggerLogic(driver),
            name=name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncDevices:
    """The beamline behind an IOC as ophyd-async devices."""

    sample: Sample
    detector: Xspress3
    slow: Motor
    fast: Motor

    @staticmethod
    def row_trigger(cols: int) -> TriggerInfo:
        """Return what a row of gates is to the detector."""
        return TriggerInfo(trigger=DetectorTrigger.EXTERNAL_LEVEL, number_of_events=cols)


def connect_async(address: Address, folder: Path) -> AsyncDevices:
    """Return connected devices; there must be a RunEngine, they live in its event loop.

    Parameters
    ----------
    folder
        Where the IOC writes; made when missing.

    Raises
    ------
    ServiceError
        No IOC answers.
    """
    sample = read_sample(address)
    folder.mkdir(parents=True, exist_ok=True)
    with init_devices():
        detector = Xspress3(address.detector, folder.resolve(), name="xs")
        slow = Motor(address.slow, name="sample_y")
        fast = Motor(address.fast, name="sample_x")
    return AsyncDevices(sample=sample, detector=detector, slow=slow, fast=fast)
