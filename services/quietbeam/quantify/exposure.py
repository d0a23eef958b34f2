"""For how much beam and time the maps of a run stand: absolute figures, so that two runs can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.model.not_measured import known_seconds
from quietbeam.core.model.types import Float64Array

Normalised = Literal["i0", "i0_rate", "time"]
"""``i0``: I0 was counted over each pixel. ``i0_rate``: I0 is a current or a rate. ``time``: the flux is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Exposure to which the maps are normalised: the medians over the measured pixels.

    Times that are no positive, finite numbers are None: not known.

    Attributes
    ----------
    i0
        As the beamline records it, or None.
    live_time_s
        For each detector, None where it was not recorded.
    dwell_s
        Real time of a pixel, or None.
    """

    i0: float | None
    live_time_s: tuple[float | None, ...]
    dwell_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "live_time_s", tuple(known_seconds(live) for live in self.live_time_s))
        object.__setattr__(self, "dwell_s", known_seconds(self.dwell_s))

    def doses(self, normalised: Normalised) -> Float64Array:
        """Return what the sensitivity of each detector refers to, (detector,).

        ``i0``: I0 times the share of the time in which the detector was live (1 where live time or dwell are not
        known). ``i0_rate``: I0 times seconds. ``time``: seconds. Seconds are live time, else the dwell.

        Raises
        ------
        InputError
            I0 or time is needed and was not recorded.
        """
        if normalised != "time" and self.i0 is None:
            raise InputError(
                "the calibration is normalised by I0, and this run has no I0",
                remedy="choose its scaler (--i0 NAME, or the profile), or calibrate with --normalise time",
            )
        if normalised == "i0":
            return np.array([self.i0 or 0.0 for _ in self.live_time_s]) * self.live_shares()
        seconds = self.seconds()
        if seconds is None:
            raise InputError("neither live time nor dwell of this run is known, on which the calibration rests")
        return seconds * (1.0 if normalised == "time" else self.i0 or 0.0)

    def seconds(self) -> Float64Array | None:
        """Return the live time of each detector (detector,), the dwell where it is not known; None: neither is."""
        found = [self.dwell_s if live is None else live for live in self.live_time_s]
        return None if not found or None in found else np.array(found, float)

    def live_shares(self) -> Float64Array:
        """Return live time over dwell, (detector,); 1 where one of both is not known."""
        return np.array(
            [1.0 if live is None or not self.dwell_s else min(live / self.dwell_s, 1.0) for live in self.live_time_s]
        )


def exposure_of(
    measured: NDArray[np.bool_],
    i0: NDArray[np.floating] | None,
    live_time_s: NDArray[np.floating] | None,
    detectors: int,
    dwell_s: float | None = None,
) -> Exposure:
    """Return the medians over the measured pixels where values are positive.

    Parameters
    ----------
    measured, i0
        (row, col).
    live_time_s
        (detector, row, col), or None.
    """
    live = [None] * detectors if live_time_s is None else [_median(one, measured) for one in live_time_s]
    return Exposure(i0=None if i0 is None else _median(i0, measured), live_time_s=tuple(live), dwell_s=dwell_s)


def _median(values: NDArray[np.floating], measured: NDArray[np.bool_]) -> float | None:
    good = measured & np.isfinite(values) & (values > 0)
    return float(np.median(values[good])) if good.any() else None
