"""The truth of a scan of the IOC, made a second time on this side of EPICS."""

from __future__ import annotations

from typing import Any

from ..experiment import Experiment, Frame
from .devices import Sample


class Mirror:
    """Measures in an experiment of its own what the RunEngine lets the IOC measure, and reports what documents carry.

    Counts are a function of pixel and visit: equal to what comes through EPICS, or something is wrong on the way.
    It holds as long as nobody else triggers the IOC. Use it as the RunEngine's ``msg_hook`` and subscribe
    :meth:`document`.

    Parameters
    ----------
    slow, fast, detector
        The devices of the scan, by which their messages are known.
    """

    def __init__(self, experiment: Experiment, sample: Sample, slow: Any, fast: Any, detector: Any) -> None:
        self._experiment, self._sample = experiment, sample
        self._axes, self._detector = (slow, fast), detector
        self._at = [extent[0] for extent in sample.extents]
        self._frame: Frame | None = None
        self._spectra = ""

    def __call__(self, message: Any) -> None:
        """Follow a message: moves, exposures, events."""
        if message.command == "set" and message.obj in self._axes:
            self._at[self._axes.index(message.obj)] = message.args[0]
        elif message.command == "trigger" and message.obj is self._detector:
            row, col = (
                round((at - first) / self._sample.step_um)
                for at, (first, _) in zip(self._at, self._sample.extents, strict=True)
            )
            self._frame = self._experiment.measure(row, col)
        elif message.command == "save" and self._frame is not None:
            self._experiment.report(self._frame)
            self._frame = None

    def document(self, name: str, doc: Any) -> None:
        """Follow the frames of a fly scan as they are announced: rows in flight, odd ones backwards."""
        if name == "stream_resource" and doc["data_key"] == self._detector.name:
            self._spectra = doc["uid"]
        elif name == "stream_datum" and doc["stream_resource"] == self._spectra:
            cols = self._sample.shape[1]
            for index in range(doc["indices"]["start"], doc["indices"]["stop"]):
                row, along = divmod(index, cols)
                self._experiment.report(self._experiment.measure(row, cols - 1 - along if row % 2 else along))
