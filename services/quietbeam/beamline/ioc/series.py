"""The regions of one detector's spectra: limits, totals, and their time series."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import InputError

from .records import Records
from .spectra import CHANNELS

MIN_REGIONS, MAX_REGIONS = 16, 48
MAX_POINTS = 16384
_PERIODS = {
    "Passive": None, "Event": None, "I/O Intr": None, "10 second": 10.0, "5 second": 5.0, "2 second": 2.0,
    "1 second": 1.0, ".5 second": 0.5, ".2 second": 0.2, ".1 second": 0.1,
}  # fmt: skip


class Regions:
    """Regions 1 to 16 (or as many as there are lines), set to the windows of the lines at first.

    Parameters
    ----------
    records
        Below ``MCA1ROI:``.
    windows
        First channel and the one after the last of each line.
    """

    def __init__(self, records: Records, windows: Mapping[str, tuple[int, int]]) -> None:
        count = max(MIN_REGIONS, len(windows))
        if count > MAX_REGIONS:
            raise InputError(f"{len(windows)} lines are more than the {MAX_REGIONS} regions of a channel")
        first = [(line, low, stop - low) for line, (low, stop) in windows.items()]
        first += [("", 0, 1)] * (count - len(first))
        self._records = records
        self._regions = [_Region(records.below(f"{n}:"), *facts) for n, facts in enumerate(first, 1)]
        self._series = np.zeros((count, MAX_POINTS))
        self._read_at = 0.0
        records.add("TSControl", "Stop", self._control, choices=("Erase/Start", "Start", "Stop", "Read"))
        records.show("TSAcquiring", "Done", choices=("Done", "Acquiring"))
        records.add("TSNumPoints", 2048, self._check_points)
        records.show("TSCurrentPoint", 0)
        records.add("TSRead", 0, self._read)
        records.add("TSRead.SCAN", "Passive", choices=tuple(_PERIODS))

    async def add_spectrum(self, spectrum: npt.NDArray[np.int32]) -> None:
        """Show the totals of a spectrum and add them to the series under way."""
        records = self._records
        acquiring, at = records["TSAcquiring"].value == "Acquiring", records["TSCurrentPoint"].value
        for n, region in enumerate(self._regions):
            total = region.total(spectrum)
            await region.record.show(total)
            if acquiring:
                self._series[n, at] = total
        if not acquiring:
            return
        await records["TSCurrentPoint"].show(at + 1)
        if at + 1 == records["TSNumPoints"].value:
            await self._control("Stop")
        period, now = _PERIODS[records["TSRead.SCAN"].value], time.monotonic()
        if period is not None and now - self._read_at >= period:
            await self._read(1)

    async def _control(self, value: str) -> None:
        records = self._records
        if value == "Erase/Start":
            self._series[...] = 0
            await records["TSCurrentPoint"].show(0)
        if value.endswith("Start"):
            full = records["TSCurrentPoint"].value >= records["TSNumPoints"].value
            await records["TSAcquiring"].show("Done" if full else "Acquiring")
            return
        if value == "Stop":
            await records["TSAcquiring"].show("Done")
        await self._read(1)

    async def _read(self, _value: Any) -> int:
        """Show the series as they are."""
        self._read_at = time.monotonic()
        points = self._records["TSNumPoints"].value
        for region, series in zip(self._regions, self._series, strict=True):
            if region.used:
                await region.series.show(series[:points])
        return 0

    async def _check_points(self, value: int) -> None:
        if not 1 <= value <= MAX_POINTS:
            raise InputError(f"TSNumPoints {value} must be 1 to {MAX_POINTS}")
        if self._records["TSAcquiring"].value == "Acquiring":
            raise InputError("a time series is under way: stop it before changing TSNumPoints")


class _Region:
    def __init__(self, records: Records, name: str, low: int, size: int) -> None:
        records.add("Name", name)
        self._use = records.pair("Use", "Yes" if name else "No", choices=("No", "Yes"))
        self._low = records.pair("MinX", low, self._check)
        self._size = records.pair("SizeX", size, self._check)
        self.record = records.show("Total_RBV", 0.0)
        self.series = records.show("TSTotal", np.zeros(MAX_POINTS))

    @staticmethod
    async def _check(value: int) -> None:
        if not 0 <= value <= CHANNELS:
            raise InputError(f"channel {value} must be 0 to {CHANNELS}")

    @property
    def used(self) -> bool:
        return bool(self._use.value == "Yes")

    def total(self, spectrum: npt.NDArray[np.int32]) -> float:
        """Return the counts inside, 0 when the region is not used."""
        return float(spectrum[self._low.value :][: self._size.value].sum()) if self.used else 0.0
