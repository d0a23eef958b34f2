"""Values become frames: exact integers, or masked with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import DocumentError
from quietbeam.core.evidence import Kind
from quietbeam.core.types import BoolArray, FloatArray

from .documents import Event
from .layout import Layout

COUNTS, I0, LIVE = 1, 2, 4
UINT32_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Consecutive frames, or one part of them (counts, I0 or live time only).

    Attributes
    ----------
    counts
        (frame, detector, line) uint32 or float32, or None.
    i0
        (frame,) float32, or None.
    live_time_s
        (frame, detector) float32, or None.
    good
        (frame,) bool: False where a value cannot be used; such frames are not measured.
    problems
        What was wrong, e.g. ``negative counts``, with the number of frames.
    """

    good: BoolArray
    counts: npt.NDArray[Any] | None = None
    i0: FloatArray | None = None
    live_time_s: FloatArray | None = None
    problems: dict[str, int] = field(default_factory=dict)


def exact_counts(values: npt.NDArray[Any], kind: Kind) -> tuple[npt.NDArray[Any], BoolArray, dict[str, int]]:
    """Convert (frame, detector, line) to uint32 without rounding (areas: float32); say which frames cannot be.

    Raises
    ------
    DocumentError
        Not numbers at all.
    """
    n = len(values)
    if values.dtype.kind not in "iuf":
        raise DocumentError(f"counts are {values.dtype}, not numbers")
    flat = values.reshape(n, -1)
    if kind == "areas":
        with np.errstate(over="ignore"):
            areas = flat.astype(np.float32)
        finite = np.isfinite(areas)
        good = np.asarray(finite.all(axis=1))
        problems = _count({"areas that are not finite": ~good})
        return np.where(good[:, None], areas, 0).astype(np.float32).reshape(values.shape), good, problems
    if flat.size and flat.dtype.kind in "iu":
        low, high = int(flat.min()), int(flat.max())
        if low >= 0 and high <= UINT32_MAX:  # the usual case, fast
            return values.astype(np.uint32), np.ones(n, bool), {}
    as_float = flat if flat.dtype.kind == "f" else None
    finite = np.isfinite(flat) if as_float is not None else np.ones(flat.shape, bool)
    with np.errstate(invalid="ignore"):
        bad: dict[str, Any] = {
            "counts that are NaN or infinite": (~finite).any(axis=1),
            "negative counts": (finite & (flat < 0)).any(axis=1),
            "counts that are not integers": (finite & (flat != np.floor(flat))).any(axis=1)
            if as_float is not None
            else np.zeros(n, bool),
            "counts above 4294967295": (finite & (flat > UINT32_MAX)).any(axis=1),
        }
    good = ~np.logical_or.reduce(list(bad.values()))
    out = np.zeros(flat.shape, np.uint32)
    out[good] = flat[good].astype(np.uint32)
    return out.reshape(values.shape), good, _count(bad)


def exact_i0(values: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray, dict[str, int]]:
    """Convert (frame,) I0 to float32; frames without positive flux cannot be normalised."""
    if values.dtype.kind not in "iuf":
        raise DocumentError(f"i0 is {values.dtype}, not a number")
    flux = values.astype(np.float32)
    good: BoolArray = np.asarray(np.isfinite(flux) & (flux > 0), dtype=np.bool_)
    return np.where(good, flux, 0).astype(np.float32), good, _count({"I0 that is not positive": ~good})


def exact_live_time(values: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray, dict[str, int]]:
    """Convert (frame, detector) live times to float32; a dead detector has 0, a frame needs one that lives."""
    if values.dtype.kind not in "iuf":
        raise DocumentError(f"live times are {values.dtype}, not numbers")
    live = values.astype(np.float32)
    alive = np.isfinite(live) & (live > 0)
    good = np.asarray(alive.any(axis=1))
    return np.where(alive, live, 0).astype(np.float32), good, _count({"live times that are all zero": ~good})


def frames_of(layout: Layout, event: Event) -> Frames:
    """Read the frames of one Event: one (scalars) or a whole row (1-D arrays).

    Raises
    ------
    DocumentError
        A key is missing, or the values do not fit each other.
    """
    data = event.data
    try:
        values = [data[key] for key in layout.keys]
    except KeyError as error:
        there = ", ".join(sorted(map(str, data))[:20])
        raise DocumentError(f"event {event.seq_num} lacks {error.args[0]!r}; keys there are: {there}") from error
    counts = _stack(values, "counts", event)
    n_det, n_line = len(layout.detectors), len(layout.lines)
    n = 1 if counts.ndim == 1 else counts.shape[1]
    out, good, problems = exact_counts(
        np.ascontiguousarray(counts.reshape(n_det, n_line, n).transpose(2, 0, 1)), layout.profile.kind
    )
    i0: FloatArray | None = None
    live: FloatArray | None = None
    if layout.i0_key:
        i0, ok, bad = exact_i0(_part(event, (layout.i0_key,), n, "i0")[:, 0])
        good, problems = good & ok, problems | bad
    if layout.live_time_keys:
        live, ok, bad = exact_live_time(_part(event, layout.live_time_keys, n, "live time"))
        good, problems = good & ok, problems | bad
    return Frames(counts=out, i0=i0, live_time_s=live, good=good, problems=problems)


def _part(event: Event, keys: Sequence[str], n: int, what: str) -> npt.NDArray[Any]:
    missing = [key for key in keys if key not in event.data]
    if missing:
        raise DocumentError(f"event {event.seq_num} lacks {missing[0]!r}")
    values = _stack([event.data[key] for key in keys], what, event)
    values = values.reshape(len(keys), -1)
    if values.shape[1] == 1 and n > 1:
        values = np.repeat(values, n, axis=1)
    if values.shape[1] != n:
        raise DocumentError(f"event {event.seq_num}: {what} has {values.shape[1]} values for {n} frames")
    return values.T


def _stack(values: list[Any], what: str, event: Event) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise DocumentError(f"event {event.seq_num}: {what} differ in length or are not numbers") from error
    if array.dtype.kind == "O" and array.ndim == 1 and all(isinstance(v, int) for v in values):
        array = array.astype(np.float64)  # beyond 64 bit: refused later as too large
    if array.dtype.kind not in "iuf":
        raise DocumentError(f"event {event.seq_num}: {what} are {array.dtype}, not numbers")
    if array.ndim == 3 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or array.size == 0:
        raise DocumentError(f"event {event.seq_num}: {what} have shape {array.shape[1:]}, expected a number or a row")
    return array


def _count(bad: dict[str, Any]) -> dict[str, int]:
    return {reason: n for reason, frames in bad.items() if (n := int(np.count_nonzero(frames)))}
