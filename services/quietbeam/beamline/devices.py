"""ophyd devices of the simulated beamline: two stages, a multi-element detector, I0."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from ophyd import Component, Device, Kind, Signal, SoftPositioner

from .experiment import Experiment, Frame
from .pace import Exposure, Pace


class Stage(SoftPositioner):
    """A linear stage in um that arrives at once."""

    def __init__(self, name: str, position: float = 0.0) -> None:
        super().__init__(name=name, egu="um", init_pos=position, source=f"SIM:{name}", kind=Kind.hinted)

    def set(self, new_position: float, **_kwargs: Any) -> Exposure:
        """Move; done at once (ophyd's own status would start a thread for each move)."""
        self._set_position(float(new_position))
        return Exposure.done_at_once()

    def describe(self) -> OrderedDict[str, Any]:
        """Add the units to the description."""
        description = super().describe()
        description[self.name]["units"] = self.egu
        return OrderedDict(description)


class FrameSignal(Signal):
    """A read-only signal that takes its value from the frame that the detector holds."""

    def __init__(self, *, value_of: Callable[[Frame], int | float], **kwargs: Any) -> None:
        self._value_of = value_of
        super().__init__(value=value_of(_EMPTY), **kwargs)
        self._metadata["write_access"] = False

    def show(self, frame: Frame, timestamp: float) -> None:
        """Hold the value of `frame`."""
        self._readback = self._value_of(frame)
        self._metadata["timestamp"] = timestamp


class _Zeros:
    """Stands for a frame before the first exposure: 0 at every index."""

    def __getitem__(self, _index: object) -> int:
        return 0


_EMPTY: Any = Frame(row=0, col=0, counts=_Zeros(), live_time_s=_Zeros(), i0=0)  # type: ignore[arg-type]


class I0(FrameSignal):
    """Ion chamber; reads the beam during the detector's exposure."""

    def __init__(self, name: str = "i0") -> None:
        super().__init__(name=name, value_of=lambda frame: frame.i0, kind=Kind.hinted)


class FluorescenceDetector(Device):
    """Multi-element detector for step scans: a scalar per (detector, line), keys such as ``xs_det1_Fe_Ka``.

    Made by :func:`make_detector`, which adds the components of the experiment at hand.
    """

    detector_names = Component(Signal, value=[""], kind=Kind.config)
    line_names = Component(Signal, value=[""], kind=Kind.config)

    def __init__(
        self,
        *,
        name: str,
        experiment: Experiment,
        where: Callable[[], tuple[int, int]],
        i0: I0,
        pace: Pace,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self._experiment, self._where, self._i0, self._pace = experiment, where, i0, pace
        self._frame_signals = self._find_frame_signals()
        self._frame: Frame | None = None
        self.detector_names.put(list(experiment.detectors))
        self.line_names.put(list(experiment.lines))

    def _find_frame_signals(self) -> list[FrameSignal]:
        return [s for s in (getattr(self, n) for n in self.component_names) if isinstance(s, FrameSignal)]

    def trigger(self) -> Exposure:
        """Expose the pixel under the beam for one dwell."""
        frame, now = self._experiment.measure(*self._where()), time.time()
        for signal in (*self._frame_signals, self._i0):
            signal.show(frame, now)
        self._frame = frame
        exposure = Exposure()
        self._pace.finish_later(exposure, self._experiment.options.dwell_s)
        return exposure

    def read(self) -> OrderedDict[str, Any]:
        """Return the counts of the last exposure."""
        if self._frame is not None:
            self._experiment.report(self._frame)
        return OrderedDict(super().read())


def make_detector(
    experiment: Experiment, where: Callable[[], tuple[int, int]], i0: I0, pace: Pace, name: str = "xs"
) -> FluorescenceDetector:
    """Return a detector with one signal per (detector, line) and one live time per detector.

    Parameters
    ----------
    where
        Returns the (row, col) under the beam.
    """
    components: dict[str, Any] = {}
    for d, detector in enumerate(experiment.detectors):
        for n, line in enumerate(experiment.lines):
            components[f"{detector}_{line}"] = Component(
                FrameSignal, value_of=lambda f, d=d, n=n: int(f.counts[d, n]), kind=Kind.normal
            )
        components[f"{detector}_live_time_s"] = Component(
            FrameSignal, value_of=lambda f, d=d: float(f.live_time_s[d]), kind=Kind.normal
        )
    kind = type("SimulatedFluorescenceDetector", (FluorescenceDetector,), components)
    made: FluorescenceDetector = kind(name=name, experiment=experiment, where=where, i0=i0, pace=pace)
    return made


class Stages:
    """The two stages and the pixel grid that they span: `slow` moves from row to row, `fast` along a row.

    Parameters
    ----------
    shape
        (row, col) pixels.
    step_um
        Pixel size; pixel centres lie symmetrically around 0.
    """

    def __init__(self, shape: tuple[int, int], step_um: float) -> None:
        self._shape, self._step = shape, step_um
        self.extents = tuple((-step_um * (n - 1) / 2, step_um * (n - 1) / 2) for n in shape)
        self.slow = Stage("sample_y", self.extents[0][0])
        self.fast = Stage("sample_x", self.extents[1][0])

    def where(self) -> tuple[int, int]:
        """Return the (row, col) under the beam."""
        row, col = (
            int(np.clip(round((stage.position - low) / self._step), 0, n - 1))
            for stage, (low, _), n in zip((self.slow, self.fast), self.extents, self._shape, strict=True)
        )
        return row, col
