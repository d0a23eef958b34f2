"""The counts of a run as they arrive, and their gain-weighted sums for training, holding out and publishing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import Kind
from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray

from .area_units import effective_unit, power_of_two
from .exposure import relative_exposure
from .gain_field import gain_field
from .gains import Gains, estimate_gains
from .glitches import find_glitches
from .holdout import hold_out

Part = Literal["all", "train", "held"]
_GAIN_PIXELS = 65_536


@dataclass(frozen=True, slots=True)
class Sums:
    """Sum over the included detectors of each line.

    Attributes
    ----------
    counts
        (line, row, col).
    exposure
        (line, row, col); ``counts ~ Poisson(exposure * rate)``, rate in summed-detector counts. 0 where not measured.
    """

    counts: FloatArray
    exposure: FloatArray

    @property
    def rate(self) -> FloatArray:
        """Counts over exposure, 0 where not measured."""
        return np.divide(self.counts, self.exposure, out=np.zeros_like(self.counts), where=self.exposure > 0)

    @property
    def level(self) -> FloatArray:
        """Mean rate of every line, (line,)."""
        exposure = np.maximum(self.exposure.sum((1, 2), dtype=np.float64), 1e-9)
        return (self.counts.sum((1, 2), dtype=np.float64) / exposure).astype(np.float32)


class RunCounts:
    """Store of one run's counts, (detector, line, row, col).

    Fitted areas come in any unit: they are kept in ``unit`` (line,), a power of two that a line's first rows fix.
    Whoever hands maps out multiplies by it.
    """

    def __init__(
        self,
        lines: Sequence[str],
        detectors: Sequence[str],
        shape: tuple[int, int],
        kind: Kind,
        seed: int,
        share: float,
    ) -> None:
        if not lines or not detectors or min(shape) < 1:
            raise InputError(f"a run needs lines, detectors and pixels, not {len(lines)}, {len(detectors)}, {shape}")
        self.lines, self.detectors, self.shape, self.kind = tuple(lines), tuple(detectors), tuple(shape), kind
        self.seed, self.share = seed, share
        size = (len(detectors), len(lines), *shape)
        self.counts: FloatArray = np.zeros(size, np.float32)
        self.held: FloatArray = np.zeros(size, np.float32) if kind == "counts" else np.zeros((0,) * 4, np.float32)
        self.unit: FloatArray = np.ones(len(lines), np.float32)
        self._in_unit = np.full(len(lines), kind == "counts")
        self.missing: BoolArray | None = None
        self.glitches = np.zeros(len(detectors), int)
        """Pixels of each detector, over all lines, that were taken out as its own: see :func:`find_glitches`."""
        self.measured = np.zeros(shape, bool)
        self.i0: FloatArray | None = None
        self.live_time_s: FloatArray | None = None
        self._exposure: FloatArray | None = None
        self._gains: Gains | None = None
        self.field: FloatArray | None = None
        """Smooth relative sensitivity of each detector, (detector, row, col); None where even."""

    # -- rows in ------------------------------------------------------------------------------------------------
    def add_rows(
        self,
        first_row: int,
        counts: NDArray[Any],
        measured: BoolArray,
        i0: NDArray[np.floating] | None = None,
        live_time_s: NDArray[np.floating] | None = None,
    ) -> None:
        """Take in rows, or replace them; see :meth:`DenoiseSession.add_rows`."""
        counts, measured = np.asarray(counts), np.asarray(measured, bool)
        n_det, n_line, (rows, cols) = len(self.detectors), len(self.lines), self.shape
        n = counts.shape[2] if counts.ndim == 4 else 0
        if counts.shape != (n_det, n_line, n, cols) or measured.shape != (n, cols):
            raise InputError(
                f"rows must be counts (detector, line, row, col) = ({n_det}, {n_line}, n, {cols}) "
                f"and measured (n, {cols}); "
                f"got {counts.shape} and {measured.shape}"
            )
        if first_row < 0 or first_row + n > rows:
            raise InputError(f"rows {first_row} to {first_row + n} do not fit a map of {rows} rows")
        if counts.dtype.kind not in "uif":
            raise InputError(f"counts must be numbers, not {counts.dtype}")
        if counts.dtype.kind == "f" and np.isinf(counts).any():
            raise InputError("counts hold infinities; mark such pixels as not measured (NaN)")
        if self.kind == "areas":
            counts = self._in_units(counts, measured)
        values = counts.astype(np.float32)
        empty = np.isnan(values)
        values = np.where(empty | ~measured, np.float32(0), values)
        if self.kind == "counts":
            if values.size and values.min() < 0:
                raise InputError("negative counts: fitted areas need kind='areas'")
            if counts.dtype.kind == "f" and (values != np.rint(values)).any():
                raise InputError("counts are not whole numbers: fitted areas need kind='areas'")
        rows_in = slice(first_row, first_row + n)
        self.counts[:, :, rows_in] = values
        empty &= measured
        if empty.any() and self.missing is None:
            self.missing = np.zeros(self.counts.shape, bool)
        if self.missing is not None:
            self.missing[:, :, rows_in] = empty
        if self.kind == "counts":
            for i in range(n):
                row = first_row + i
                self.held[:, :, row] = hold_out(values[:, :, i], self.share, self.seed, row)
        self.measured[rows_in] = measured & ~empty.all((0, 1))
        if i0 is not None:
            self.i0 = np.ones(self.shape, np.float32) if self.i0 is None else self.i0
            self.i0[rows_in] = self._checked(i0, (n, cols), "i0")
        if live_time_s is not None:
            if self.live_time_s is None:
                self.live_time_s = np.ones((n_det, *self.shape), np.float32)
            self.live_time_s[:, rows_in] = self._checked(live_time_s, (n_det, n, cols), "live_time_s")
        self._exposure = None

    def _in_units(self, areas: NDArray[Any], measured: BoolArray) -> Float64Array:
        """Return areas of about 1000 at their first rows, so that no figure on the way under- or overflows."""
        areas = np.where(measured, areas, np.nan).astype(np.float64)
        for j in np.flatnonzero(~self._in_unit):
            unit = power_of_two(areas[:, j])
            if unit is not None:
                self.unit[j], self._in_unit[j] = unit / 1024, True
        return areas / self.unit[:, None, None].astype(np.float64)

    @staticmethod
    def _checked(values: NDArray[np.floating], shape: tuple[int, ...], name: str) -> NDArray[np.floating]:
        values = np.asarray(values)
        if values.shape != shape:
            raise InputError(f"{name} must have shape {shape}, not {values.shape}")
        return values

    # -- what is known of the detectors -------------------------------------------------------------------------
    @property
    def rows_measured(self) -> int:
        """Rows with at least one measured pixel."""
        return int(self.measured.any(1).sum())

    @property
    def exposure(self) -> FloatArray:
        """(detector, row, col) relative exposure."""
        if self._exposure is None:
            self._exposure = relative_exposure(self.measured, self.i0, self.live_time_s, len(self.detectors))
        return self._exposure

    @property
    def gains(self) -> Gains:
        """Gains as last estimated."""
        return self._gains if self._gains is not None else self.estimate_gains()

    def estimate_gains(self) -> Gains:
        """Estimate gains anew from all rows (evenly chosen ones of a large map), and the gain field."""
        self._leave_out_glitches()
        rows = np.flatnonzero(self.measured.any(1))
        keep = max(1, _GAIN_PIXELS // self.shape[1])
        if rows.size > keep:
            rows = rows[np.linspace(0, rows.size - 1, keep).astype(int)]
        counts: NDArray[np.floating[Any]] = self.counts[:, :, rows] * (self.exposure[:, None, rows] > 0)
        if self.kind == "areas":  # how much they tell is not in their size
            counts = counts / effective_unit(counts, self.exposure[:, rows])[:, None, None]
        self._gains = estimate_gains(counts, self.exposure[:, rows], self.detectors)
        there = self.exposure if self.missing is None else self.exposure * ~self.missing.any(1)
        self.field = gain_field(self.counts, there, self._gains.values)
        return self._gains

    def _leave_out_glitches(self) -> None:
        """Take what only one detector saw, far beyond noise, as not measured by it."""
        if self.kind != "counts":
            return
        for j in range(len(self.lines)):
            for k, at in find_glitches(self.counts[:, j], self.exposure):
                if self.missing is None:
                    self.missing = np.zeros(self.counts.shape, bool)
                self.missing[k, j][at] = True
                self.counts[k, j][at] = self.held[k, j][at] = 0
                self.glitches[k] += int(at.sum())

    def weights(self, j: int, at: tuple[slice, slice] = (slice(None), slice(None))) -> FloatArray:
        """Return what each detector adds to the exposure of line ``j``, (detector, row, col): gain, field, exposure.

        Without gaps they sum to the exposure: the field moves weight between detectors, never the detector sum's.
        """
        values = self.gains.values[:, j].astype(np.float32)[:, None, None]
        if self.field is None:
            return values * self.exposure[:, *at]
        local = values * self.field[:, *at]
        return local / np.maximum(local.sum(0), 1e-9) * self.exposure[:, *at]

    # -- sums ---------------------------------------------------------------------------------------------------
    def sums(
        self,
        part: Part = "all",
        rows: tuple[int, int] | None = None,
        detectors: Any = None,
        cols: tuple[int, int] | None = None,
    ) -> Sums:
        """Return the sum over included detectors.

        Parameters
        ----------
        part
            ``held``: the counts that never train; ``train``: the others; ``all``: both.
        rows, cols
            Half-open ranges, or all.
        detectors
            Bool mask (detector,) of those to take, or all.
        """
        at = (slice(*(rows or (0, self.shape[0]))), slice(*(cols or (0, self.shape[1]))))
        gains = self.gains
        take = gains.included if detectors is None else gains.included & np.asarray(detectors)[:, None]
        mask = take.astype(np.float32)
        lit = (self.exposure[:, *at] > 0).astype(np.float32)
        share = {"all": 1.0, "held": self.share, "train": 1.0 - self.share}[part]
        counts = self.held[:, :, *at] if part == "held" else self.counts[:, :, *at]
        if part == "train":
            counts = counts - self.held[:, :, *at]
        weight = np.empty(counts.shape[1:], np.float32)
        for j in range(len(self.lines)):
            parts = self.weights(j, at)[take[:, j]]
            if self.missing is not None:
                parts = parts * ~self.missing[take[:, j], j][:, *at]
            weight[j] = parts.sum(0)
        total = np.einsum("dl,dlrc,drc->lrc", mask, counts, lit, optimize=True)
        return Sums(counts=total.astype(np.float32), exposure=weight * np.float32(share))
