"""Frames: exact integer counts, I0, live times and positions; a frame with an unusable value is masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.evidence import CountKind
from quietbeam.core.model.not_measured import I0_NOT_POSITIVE, usable_areas, usable_counts
from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray, NumericArray

from ..profile.layout import Layout

SHORT = 0.1
"""A row may lack (or have) so large a share of its frames; detectors drop pulses."""
UINT32_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Consecutive frames, or one part of them (counts, I0, live time or a position only).

    Attributes
    ----------
    counts
        (frame, detector, line) uint32 or float32, or None.
    i0
        (frame,) float32, or None.
    live_time_s
        (frame, detector) float32, or None.
    slow, fast
        (frame,) float64 measured positions in the geometry's units, or None.
    good
        (frame,) bool: False where a value cannot be used; such frames are not measured.
    no_flux
        (frame,) bool: only the I0 of the frame cannot be used; None when every I0 can.
    problems
        What was wrong, e.g. ``negative counts``, with the number of frames.
    """

    good: BoolArray
    counts: NumericArray | None = None
    i0: FloatArray | None = None
    live_time_s: FloatArray | None = None
    slow: Float64Array | None = None
    fast: Float64Array | None = None
    no_flux: BoolArray | None = None
    problems: dict[str, int] = field(default_factory=dict)

    def part(self, first: int, stop: int) -> Frames:
        """Return frames ``[first, stop)``, with the problems of all."""
        return Frames(
            good=self.good[first:stop],
            counts=self.counts[first:stop] if self.counts is not None else None,
            i0=self.i0[first:stop] if self.i0 is not None else None,
            live_time_s=self.live_time_s[first:stop] if self.live_time_s is not None else None,
            slow=self.slow[first:stop] if self.slow is not None else None,
            fast=self.fast[first:stop] if self.fast is not None else None,
            no_flux=self.no_flux[first:stop] if self.no_flux is not None else None,
            problems=self.problems,
        )


def combine(
    layout: Layout,
    parts: Mapping[str, NumericArray],
    slow: Float64Array | None = None,
    fast: Float64Array | None = None,
) -> Frames:
    """Check the parts of frames by role and return them; a frame is good when all its parts are.

    Parameters
    ----------
    parts
        ``counts`` (frame, detector, line), ``live_time_s`` (frame, detector), ``i0``, ``slow``, ``fast`` (frame,).
    slow, fast
        (frame,) readings of the motors. NaN: nothing is known, and nothing is checked.
    """
    values: dict[str, Any] = {}
    good, problems = np.ones(len(next(iter(parts.values()))), bool), dict[str, int]()
    flux = None
    for role, part in parts.items():
        if role in layout.reading_roles:
            values[role] = _readings(layout, role, part)
            continue
        values[role], usable, bad = _exact(layout, role, part)
        problems |= bad
        if role == "i0":
            flux = usable
        else:
            good = good & usable
    if flux is not None and not flux.all():
        values["no_flux"] = good & ~flux
        good = good & flux
    if slow is not None:
        values["slow"] = _readings(layout, "slow", slow)
    if fast is not None:
        values["fast"] = _readings(layout, "fast", fast)
    return Frames(good=good, problems=problems, **values)


def _readings(layout: Layout, role: str, part: NumericArray) -> Float64Array:
    scale = layout.motors.scale[role == "fast"]
    if scale == 1.0:
        return part if part.dtype == np.float64 else part.astype(np.float64)
    return part * scale


def _exact(layout: Layout, role: str, part: NumericArray) -> tuple[NumericArray, BoolArray, dict[str, int]]:
    if role == "counts":
        return exact_counts(part, layout.kind)
    if role == "live_time_s":
        return exact_live_time(layout.live_time_unit.seconds(part))
    if role == "i0":
        return exact_i0(part.reshape(-1))
    slow, fast = layout.position_scale
    return exact_position(part.reshape(-1), slow if role == "slow" else fast)


def exact_counts(values: NumericArray, kind: CountKind) -> tuple[NumericArray, BoolArray, dict[str, int]]:
    """Convert (frame, detector, line) to uint32 without rounding (areas: float32).

    Returns
    -------
    values, good, problems
        Zeros in frames that cannot be converted; (frame,) bool; the number of frames by problem.

    Raises
    ------
    DocumentError
        Not numbers at all.
    """
    _require_numbers(values, "counts are", "numbers")
    return usable_areas(values) if kind == "areas" else usable_counts(values)


def exact_i0(values: NumericArray) -> tuple[FloatArray, BoolArray, dict[str, int]]:
    """Convert (frame,) I0 to float32; frames without positive flux cannot be normalised."""
    _require_numbers(values, "i0 is", "a number")
    flux = values.astype(np.float32)
    good: BoolArray = np.asarray(np.isfinite(flux) & (flux > 0), dtype=np.bool_)
    return (
        np.where(good, flux, 0).astype(np.float32),
        good,
        _frames_by_problem({I0_NOT_POSITIVE: ~good}),
    )


def exact_live_time(values: NumericArray) -> tuple[FloatArray, BoolArray, dict[str, int]]:
    """Convert (frame, detector) live times to float32; 0 for a dead detector, a frame needs one that is not dead."""
    _require_numbers(values, "live times are", "numbers")
    live = values.astype(np.float32)
    counting = np.isfinite(live) & (live > 0)
    good: BoolArray = np.asarray(counting.any(axis=1))
    return (
        np.where(counting, live, 0).astype(np.float32),
        good,
        _frames_by_problem({"live times that are all zero": ~good}),
    )


def exact_position(values: NumericArray, scale: float) -> tuple[Float64Array, BoolArray, dict[str, int]]:
    """Convert (frame,) positions to float64 in the geometry's units; a frame without a position has no cell."""
    _require_numbers(values, "positions are", "numbers")
    positions = values.astype(np.float64) * scale
    good: BoolArray = np.asarray(np.isfinite(positions), dtype=np.bool_)
    return (
        np.where(good, positions, 0.0),
        good,
        _frames_by_problem({"positions that are not finite": ~good}),
    )


def _require_numbers(values: NumericArray, subject: str, wanted: str) -> None:
    if values.dtype.kind not in "iuf":
        raise DocumentError(f"{subject} {values.dtype}, not {wanted}")


def _frames_by_problem(bad: Mapping[str, BoolArray]) -> dict[str, int]:
    return {problem: n for problem, frames in bad.items() if (n := int(np.count_nonzero(frames)))}
