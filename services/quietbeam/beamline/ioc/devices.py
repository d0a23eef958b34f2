"""ophyd devices for the IOC: an Xspress3 in the style of nslsii's, motor records, I0."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import aioca  # noqa: F401  (first: pyepics then takes the same libca)
from caproto import CaprotoError
from caproto.sync.client import read
from ophyd import Component, Device, EpicsMotor, EpicsSignal, EpicsSignalRO, EpicsSignalWithRBV, Kind

from quietbeam.core.errors import ServiceError

from .address import Address

CONNECT_S = 20.0


class Region(Device):
    """One region of a channel's spectrum."""

    roi_name = Component(EpicsSignal, "Name", kind=Kind.config)
    min_x = Component(EpicsSignal, "MinX", kind=Kind.config)
    size_x = Component(EpicsSignal, "SizeX", kind=Kind.config)
    total_rbv = Component(EpicsSignalRO, "Total_RBV", kind=Kind.normal)


class Scaler(Device):
    """Dead time of a channel, in percent of the exposure."""

    dt_percent = Component(EpicsSignalRO, "10:Value_RBV", kind=Kind.normal)


class Driver(Device):
    """The acquisition of the Xspress3."""

    acquire = Component(EpicsSignalWithRBV, "Acquire", kind=Kind.omitted, put_complete=True)
    acquire_time = Component(EpicsSignalWithRBV, "AcquireTime", kind=Kind.config)
    num_images = Component(EpicsSignalWithRBV, "NumImages", kind=Kind.config)
    image_mode = Component(EpicsSignalWithRBV, "ImageMode", kind=Kind.config, string=True)
    trigger_mode = Component(EpicsSignalWithRBV, "TriggerMode", kind=Kind.config, string=True)
    erase = Component(EpicsSignal, "ERASE", kind=Kind.omitted)


class Xspress3(Device):
    """Regions of all channels, one exposure a point. Made by :func:`make_xspress3`, which adds the channels."""

    cam = Component(Driver, "det1:")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stage_sigs = OrderedDict(
            [
                (self.cam.acquire, 0),
                (self.cam.trigger_mode, "Internal"),
                (self.cam.image_mode, "Multiple"),
                (self.cam.num_images, 1),
            ]
        )

    def trigger(self) -> Any:
        """Expose once; done when the put to Acquire is, which is after every value of the exposure is there."""
        return self.cam.acquire.set(1)


def make_xspress3(prefix: str, *, channels: int, lines: tuple[str, ...], name: str = "xs") -> Xspress3:
    """Return the detector with a region per line and channel.

    The totals are called after detector and line (``xs_det1_Fe_Ka``), the dead times ``xs_det1_dead_percent``, as
    nslsii's ``set_roi(name=...)`` names its regions; a profile then needs no table of numbers.
    """
    parts: dict[str, Any] = {}
    for channel in range(1, channels + 1):
        members: dict[str, Any] = {"sca": Component(Scaler, f"C{channel}SCA:")}
        for n in range(1, len(lines) + 1):
            members[f"mcaroi{n:02d}"] = Component(Region, f"MCA{channel}ROI:{n}:")
        parts[f"channel{channel:02d}"] = Component(type("Channel", (Device,), members), "")
    made: Xspress3 = type("SimulatedXspress3", (Xspress3,), parts)(prefix, name=name)
    for channel in range(1, channels + 1):
        device = getattr(made, f"channel{channel:02d}")
        device.sca.dt_percent.name = f"{name}_det{channel}_dead_percent"
        for n, line in enumerate(lines, 1):
            getattr(device, f"mcaroi{n:02d}").total_rbv.name = f"{name}_det{channel}_{line}"
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What lies in the beam, as the IOC tells it.

    Attributes
    ----------
    shape
        (row, col) pixels.
    """

    name: str
    shape: tuple[int, int]
    step_um: float
    dwell_s: float
    lines: tuple[str, ...]
    channels: int

    @property
    def extents(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """First and last pixel centre of the slow and the fast axis, in um."""
        slow, fast = (self.step_um * (n - 1) / 2 for n in self.shape)
        return (-slow, slow), (-fast, fast)


def read_sample(address: Address) -> Sample:
    """Return what the IOC says of its sample.

    Raises
    ------
    ServiceError
        No IOC answers.
    """

    def read_now(name: str) -> Any:
        try:
            answer = read(f"{address.prefix}{name}", timeout=CONNECT_S, repeater=False)
        except CaprotoError as error:
            raise ServiceError(
                f"no IOC answers for {address.prefix}{name} within {CONNECT_S:g} s",
                remedy="start one with `quietbeam ioc`, and set the EPICS variables that it prints before Python "
                "starts",
            ) from error
        return answer.data[0] if len(answer.data) == 1 else bytes(answer.data)

    return Sample(
        name=read_now("Sample:Name").decode(),
        shape=(int(read_now("Sample:Rows")), int(read_now("Sample:Cols"))),
        step_um=float(read_now("Sample:StepUm")),
        dwell_s=float(read_now("Sample:DwellS")),
        lines=tuple(read_now("Sample:Lines").decode().split(",")),
        channels=int(read_now("XSP3:det1:MAX_NUM_CHANNELS_RBV")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The beamline behind an IOC as ophyd devices."""

    sample: Sample
    detector: Xspress3
    i0: EpicsSignalRO
    slow: EpicsMotor
    fast: EpicsMotor


def connect(address: Address) -> Devices:
    """Return connected devices; raises what :func:`read_sample` raises."""
    sample = read_sample(address)
    devices = Devices(
        sample=sample,
        detector=make_xspress3(address.detector, channels=sample.channels, lines=sample.lines),
        i0=EpicsSignalRO(address.i0, name="i0", kind=Kind.hinted),
        slow=EpicsMotor(address.slow, name="sample_y"),
        fast=EpicsMotor(address.fast, name="sample_x"),
    )
    for device in (devices.detector, devices.i0, devices.slow, devices.fast):
        device.wait_for_connection(timeout=CONNECT_S)
    return devices
