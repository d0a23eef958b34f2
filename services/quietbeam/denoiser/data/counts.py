"""The counts of a run as they arrive, and their gain-weighted sums for training, holding out and publishing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import Kind
from quietbeam.core.model.rows import validate_rows
from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray

from .area_units import effective_unit, power_of_two
from .exposure import relative_exposure
from .gain_field import gain_field
from .gains import Gains, estimate_gains
from .glitches import find_glitches
from .holdout import HELD_OUT_SHARE, hold_out
from .sums import Sums

Split = Literal["all", "train", "held"]
_GAIN_PIXELS = 65_536


class RunCounts:
    """Store of one run's counts, (detector, line, row, col).

    Fitted areas come in any unit: they are stored divided by ``unit`` (line,), a power of two that a line's first rows
    fix. Published maps are multiplied by it.
    """

    def __init__(
        self,
        lines: Sequence[str],
        detectors: Sequence[str],
        shape: tuple[int, int],
        kind: Kind,
        seed: int,
    ) -> None:
        if not lines or not detectors or min(shape) < 1:
            raise InputError(f"a run needs lines, detectors and pixels, not {len(lines)}, {len(detectors)}, {shape}")
        self.lines, self.detectors, self.shape, self.kind = tuple(lines), tuple(detectors), tuple(shape), kind
        self.seed, self.share = seed, HELD_OUT_SHARE
        size = (len(detectors), len(lines), *shape)
        self.counts: FloatArray = np.zeros(size, np.float32)
        self.held: FloatArray = np.zeros(size, np.float32) if kind == "counts" else np.zeros((0,) * 4, np.float32)
        self.unit: FloatArray = np.ones(len(lines), np.float32)
        self._in_unit = np.full(len(lines), kind == "counts")
        self.missing: BoolArray | None = None
        self.glitches = np.zeros(len(detectors), int)
        """Pixels of each detector, over all lines, that it alone saw and that are masked: see :func:`find_glitches`."""
        self.measured = np.zeros(shape, bool)
        self.row_versions = np.zeros(shape[0], np.int64)
        """How often each row was added or masked, (row,)."""
        self.i0: FloatArray | None = None
        self.live_time_s: FloatArray | None = None
        self._exposure: FloatArray | None = None
        self._gains: Gains | None = None
        self.field: FloatArray | None = None
        """Smooth relative sensitivity of each detector, (detector, row, col); None where even."""

    def add_rows(
        self,
        first_row: int,
        counts: NDArray[Any],
        measured: BoolArray,
        i0: NDArray[np.floating] | None = None,
        live_time_s: NDArray[np.floating] | None = None,
    ) -> None:
        """Add rows, or replace them; see :meth:`DenoiseSession.add_rows`."""
        counts, measured = np.asarray(counts), np.asarray(measured, bool)
        self._check_place(first_row, counts.shape, measured.shape)
        validate_rows(counts, self.kind, measured)
        if self.kind == "areas":
            counts = self._in_units(counts, measured)
        n = counts.shape[2]
        values = counts.astype(np.float32)
        empty = np.isnan(values)
        values = np.where(empty | ~measured, np.float32(0), values)
        rows_in = slice(first_row, first_row + n)
        self.row_versions[rows_in] += 1
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
            self.i0[rows_in] = _of_shape(i0, measured.shape, "i0")
        if live_time_s is not None:
            if self.live_time_s is None:
                self.live_time_s = np.ones((len(self.detectors), *self.shape), np.float32)
            self.live_time_s[:, rows_in] = _of_shape(live_time_s, (len(self.detectors), *measured.shape), "live_time_s")
        self._exposure = None

    def _check_place(self, first_row: int, counts: tuple[int, ...], measured: tuple[int, ...]) -> None:
        n_det, n_line, (rows, cols) = len(self.detectors), len(self.lines), self.shape
        n = counts[2] if len(counts) == 4 else 0
        if counts != (n_det, n_line, n, cols) or measured != (n, cols):
            raise InputError(
                f"rows must be counts (detector, line, row, col) = ({n_det}, {n_line}, n, {cols}) "
                f"and measured (n, {cols}); got {counts} and {measured}"
            )
        if first_row < 0 or first_row + n > rows:
            raise InputError(f"rows {first_row} to {first_row + n} do not fit a map of {rows} rows")

    def _in_units(self, areas: NDArray[Any], measured: BoolArray) -> Float64Array:
        """Return areas scaled to about 1000 by their first rows, so that no intermediate value under- or overflows."""
        areas = np.where(measured, areas, np.nan).astype(np.float64)
        for j in np.flatnonzero(~self._in_unit):
            unit = power_of_two(areas[:, j])
            if unit is not None:
                self.unit[j], self._in_unit[j] = unit / 1024, True
        return areas / self.unit[:, None, None].astype(np.float64)

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
        self._mask_glitches()
        rows = np.flatnonzero(self.measured.any(1))
        most_rows = max(1, _GAIN_PIXELS // self.shape[1])
        if rows.size > most_rows:
            rows = rows[np.linspace(0, rows.size - 1, most_rows).astype(int)]
        counts: NDArray[np.floating[Any]] = self.counts[:, :, rows] * (self.exposure[:, None, rows] > 0)
        if self.kind == "areas":  # their size is no measure of their precision
            counts = counts / effective_unit(counts, self.exposure[:, rows])[:, None, None]
        self._gains = estimate_gains(counts, self.exposure[:, rows], self.detectors)
        complete = self.exposure if self.missing is None else self.exposure * ~self.missing.any(1)
        self.field = gain_field(self.counts, complete, self._gains.values)
        return self._gains

    def _mask_glitches(self) -> None:
        """Mark pixels that one detector alone saw far above noise as not measured by it."""
        if self.kind != "counts":
            return
        for j in range(len(self.lines)):
            for k, at in find_glitches(self.counts[:, j], self.exposure):
                if self.missing is None:
                    self.missing = np.zeros(self.counts.shape, bool)
                self.missing[k, j][at] = True
                self.counts[k, j][at] = self.held[k, j][at] = 0
                self.row_versions[at.any(1)] += 1
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

    def sums(
        self,
        split: Split = "all",
        rows: tuple[int, int] | None = None,
        detectors: Any = None,
        cols: tuple[int, int] | None = None,
    ) -> Sums:
        """Return the sum over included detectors.

        Parameters
        ----------
        split
            ``held``: the counts that never train; ``train``: the others; ``all``: both.
        rows, cols
            Half-open ranges, or all.
        detectors
            Bool mask (detector,) of those to sum, or all.
        """
        at = (slice(*(rows or (0, self.shape[0]))), slice(*(cols or (0, self.shape[1]))))
        gains = self.gains
        used = gains.included if detectors is None else gains.included & np.asarray(detectors)[:, None]
        mask = used.astype(np.float32)
        valid = (self.exposure[:, *at] > 0).astype(np.float32)
        share = {"all": 1.0, "held": self.share, "train": 1.0 - self.share}[split]
        counts = self.held[:, :, *at] if split == "held" else self.counts[:, :, *at]
        if split == "train":
            counts = counts - self.held[:, :, *at]
        weight = np.empty(counts.shape[1:], np.float32)
        for j in range(len(self.lines)):
            parts = self.weights(j, at)[used[:, j]]
            if self.missing is not None:
                parts = parts * ~self.missing[used[:, j], j][:, *at]
            weight[j] = parts.sum(0)
        total = np.einsum("dl,dlrc,drc->lrc", mask, counts, valid, optimize=True)
        return Sums(counts=total.astype(np.float32), exposure=weight * np.float32(share))


def _of_shape(values: NDArray[np.floating], shape: tuple[int, ...], name: str) -> NDArray[np.floating]:
    values = np.asarray(values)
    if values.shape != shape:
        raise InputError(f"{name} must have shape {shape}, not {values.shape}")
    return values
