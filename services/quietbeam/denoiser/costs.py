"""What a pass of the network costs on this machine, measured as it runs."""

from __future__ import annotations

_NEWEST = 0.2
"""Weight of the newest pass in the mean."""
OTHER_S = 1e-5
"""Seconds per line-pixel that non-local means and smoothers of finished maps take (one core of an AMD EPYC)."""


class PassCost:
    """Running mean of the seconds that a pass of the network takes per line-pixel; rows served meanwhile included."""

    def __init__(self) -> None:
        self._mean = 0.0

    def record(self, line_pixels: int, seconds: float) -> None:
        """Add a pass."""
        if line_pixels > 0:
            cost = seconds / line_pixels
            self._mean = cost if self._mean == 0 else (1 - _NEWEST) * self._mean + _NEWEST * cost

    def seconds(self, line_pixels: int, passes: float = 1.0) -> float:
        """Return how long passes over so many line-pixels will take; 0 before the first."""
        return self._mean * line_pixels * passes
