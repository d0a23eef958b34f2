"""How the values of live time keys become seconds."""

from __future__ import annotations

from dataclasses import dataclass

from quietbeam.core.model.types import NumericArray

from .sections import LiveTimeSection


@dataclass(frozen=True, slots=True)
class LiveTimeUnit:
    """How the values of a live time key become seconds.

    Attributes
    ----------
    factor_s
        Seconds per unit of the value.
    dead_percent
        True when the value is a dead time in percent, of `factor_s`.
    """

    factor_s: float = 1.0
    dead_percent: bool = False

    @classmethod
    def of(cls, section: LiveTimeSection, dwell_s: float | None) -> LiveTimeUnit:
        """Return the unit for a dwell in seconds (None: fractions are of 1 s)."""
        dwell = dwell_s or 1.0
        if section.reading == "dead_percent":
            return cls(dwell, dead_percent=True)
        return cls(section.scale if section.reading == "time" else section.scale * dwell)

    def seconds(self, values: NumericArray) -> NumericArray:
        """Return live times in seconds."""
        return (1 - values / 100.0) * self.factor_s if self.dead_percent else values * self.factor_s
