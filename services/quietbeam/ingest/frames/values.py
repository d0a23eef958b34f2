"""Values become frames: exact integers, or masked with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.evidence import Kind
from quietbeam.core.model.types import BoolArray, FloatArray

from ..documents.model import Event
from ..profile.layout import Layout
from .line_counts import counts_of_lines

COUNTS, I0, LIVE, SLOW, FAST = 1, 2, 4, 8, 16
SHORT = 0.1
"""A row may lack (or have) so much of its frames; detectors drop pulses."""
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
    problems
        What was wrong, e.g. ``negative counts``, with the number of frames.
    """

    good: BoolArray
    counts: npt.NDArray[Any] | None = None
    i0: FloatArray | None = None
    live_time_s: FloatArray | None = None
    slow: npt.NDArray[np.float64] | None = None
    fast: npt.NDArray[np.float64] | None = None
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


def exact_position(values: npt.NDArray[Any], scale: float) -> tuple[npt.NDArray[np.float64], BoolArray, dict[str, int]]:
    """Convert (frame,) positions to float64 in the geometry's units; a frame without a position has no cell."""
    if values.dtype.kind not in "iuf":
        raise DocumentError(f"positions are {values.dtype}, not numbers")
    where = values.astype(np.float64) * scale
    good: BoolArray = np.asarray(np.isfinite(where), dtype=np.bool_)
    return np.where(good, where, 0.0), good, _count({"positions that are not finite": ~good})


def frames_of(layout: Layout, event: Event) -> Frames:
    """Read the frames of one Event, or of a part of it: one (scalars, spectra) or a whole row.

    Raises
    ------
    DocumentError
        A key is missing, or the values do not fit each other.
    """
    parts: dict[str, npt.NDArray[Any]] = {}
    counts = _counts(layout, event)
    if counts is not None:
        parts["counts"] = counts
    for role, keys in (("i0", (layout.i0_key,)), ("live_time_s", layout.live_time_keys)):
        if any(keys):
            parts[role] = _rows([_value(event, key) for key in keys], role, event).T
    if layout.input_rate_keys:
        rates = _rows([_value(event, key) for key in layout.input_rate_keys], "live_time_s", event).T
        n = min(len(rates), len(parts["live_time_s"]))
        into = np.asarray(rates[:n], np.float64)
        parts["live_time_s"] = np.divide(parts["live_time_s"][:n], into, out=np.zeros(into.shape), where=into > 0)
    for role, key in zip(("slow", "fast"), layout.position_keys, strict=False):
        parts[role] = _rows([_value(event, key)], role, event)[0]
    for key, (role, dataset) in layout.datasets.items():
        if role != "counts" and key in event.data:
            where = f"event {event.seq_num}: {key!r}"
            parts[role] = part_of(
                layout, role, arrange(_number(event.data[key], key, event), dataset.axes, where), where
            )
    if not parts:
        return Frames(good=np.ones(0, bool))
    return combine(layout, _same_length(parts, event))


def combine(layout: Layout, parts: Mapping[str, npt.NDArray[Any]]) -> Frames:
    """Check the parts of frames by role and return them; a frame is good when all its parts are.

    Parameters
    ----------
    parts
        ``counts`` (frame, detector, line), ``live_time_s`` (frame, detector), ``i0``, ``slow``, ``fast`` (frame,).
    """
    values: dict[str, Any] = {}
    good, problems = np.ones(len(next(iter(parts.values()))), bool), dict[str, int]()
    for role, part in parts.items():
        if role == "counts":
            values[role], fine, bad = exact_counts(part, layout.kind)
        elif role == "i0":
            values[role], fine, bad = exact_i0(part.reshape(-1))
        elif role == "live_time_s":
            values[role], fine, bad = exact_live_time(layout.live_time_unit.seconds(part))
        else:
            slow, fast = layout.position_scale
            values[role], fine, bad = exact_position(part.reshape(-1), slow if role == "slow" else fast)
        good, problems = good & fine, problems | bad
    return Frames(good=good, problems=problems, **values)


def arrange(values: npt.NDArray[Any], axes: Sequence[str], what: str) -> npt.NDArray[Any]:
    """Return an array with its axes in the order (frame, detector, line or channel); ones that lead are dropped.

    Raises
    ------
    DocumentError
        The array has other axes than the profile says.
    """
    n = len(axes)
    while values.ndim > n and values.shape[0] == 1:
        values = values[0]
    if values.ndim > n:
        values = values.reshape(values.shape[0], *(k for k in values.shape[1:] if k != 1))
    if values.ndim == n - 1:
        values = values[None]
    if values.ndim != n:
        raise DocumentError(f"{what} has shape {values.shape}, the profile says axes {', '.join(axes)}")
    order = sorted(range(n), key=lambda i: _AXES.index(axes[i]))
    values = values.transpose(order)
    return values.reshape(-1, *values.shape[2:]) if "col" in axes else values


_AXES = ("frame", "row", "col", "detector", "line", "channel")


def _counts(layout: Layout, event: Event) -> npt.NDArray[Any] | None:
    """Return (frame, detector, line), or None when the event has no counts."""
    n_det, n_line = len(layout.detectors), len(layout.lines)
    array = layout.array_key
    if array:
        if array not in event.data:
            return None
        axes, where = layout.datasets[array][1].axes, f"event {event.seq_num}: {array!r}"
        return part_of(layout, "counts", arrange(_number(event.data[array], array, event), axes, where), where)
    if layout.spectra is not None:
        spectra = [_spectra(_number(_value(event, key), key, event), key, event) for key in layout.keys]
        if len({s.shape for s in spectra}) > 1:
            raise DocumentError(f"event {event.seq_num}: spectra differ in shape: {[s.shape for s in spectra][:8]}")
        return part_of(layout, "counts", np.stack(spectra, axis=1), f"event {event.seq_num}")
    stack = _rows([_value(event, key) for key in layout.keys], "counts", event)
    return np.ascontiguousarray(stack.reshape(n_det, n_line, -1).transpose(2, 0, 1))


def part_of(layout: Layout, role: str, values: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """Check an array with axes (frame, detector, line or channel) against the run; spectra become counts.

    Raises
    ------
    DocumentError
        Other numbers of detectors or lines than the run has.
    """
    n_det, n_line = len(layout.detectors), len(layout.lines)
    axes: tuple[int, ...] = {"counts": (n_det, n_line), "live_time_s": (n_det,)}.get(role, ())
    if values.ndim != len(axes) + 1:
        raise DocumentError(
            f"{where}: {role} have shape {values.shape[1:]} per frame, expected {axes}; correct the axes"
        )
    if axes and values.shape[1] != n_det:
        raise DocumentError(
            f"{where}: {role} of {values.shape[1]} detectors, the run has {n_det} ({', '.join(layout.detectors[:8])})"
        )
    if role != "counts":
        return values
    if layout.spectra is not None:
        return counts_of_lines(values, layout)
    if values.shape[2] != n_line:
        raise DocumentError(f"{where}: counts of {values.shape[2]} lines, the run has {n_line}; correct the axes")
    return values


def _spectra(values: npt.NDArray[Any], key: str, event: Event) -> npt.NDArray[Any]:
    if values.ndim == 0 or sum(n != 1 for n in values.shape[:-1]) > 1:
        raise DocumentError(f"event {event.seq_num}: {key!r} has shape {values.shape}, expected spectra")
    return values.reshape(-1, values.shape[-1])


def _value(event: Event, key: str) -> Any:
    if key not in event.data:
        there = ", ".join(sorted(map(str, event.data))[:20])
        raise DocumentError(f"event {event.seq_num} lacks {key!r}; keys there are: {there}")
    return event.data[key]


def _number(value: Any, what: str, event: Event) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise DocumentError(f"event {event.seq_num}: {what!r} differ in length or are not numbers") from error
    if array.dtype.kind == "O" and array.ndim == 0 and isinstance(value, int):
        array = array.astype(np.float64)  # beyond 64 bit: refused later as too large
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise DocumentError(f"event {event.seq_num}: {what!r} are {array.dtype}, not numbers")
    if array.size == 0:
        raise DocumentError(f"event {event.seq_num}: {what!r} is empty")
    return array


def _rows(values: Sequence[Any], what: str, event: Event) -> npt.NDArray[Any]:
    """Return (key, frame) of numbers or 1-D arrays (axes of length 1 are dropped); short ones decide the length."""
    if all(isinstance(value, int | float) for value in values):  # the usual case, fast
        array = np.asarray(values)
        if array.dtype.kind != "O":
            return array[:, None]
    arrays = [_number(value, what, event) for value in values]
    for array in arrays:
        if sum(n != 1 for n in array.shape) > 1:
            raise DocumentError(f"event {event.seq_num}: {what} have shape {array.shape}, expected a number or a row")
    sizes = [array.size for array in arrays]
    least = min(sizes)
    if least < max(sizes) * (1 - SHORT):
        raise DocumentError(f"event {event.seq_num}: {what} differ in length: {least} to {max(sizes)} frames")
    return np.stack([array.reshape(-1)[:least] for array in arrays])


def _same_length(parts: dict[str, npt.NDArray[Any]], event: Event) -> dict[str, npt.NDArray[Any]]:
    n = len(parts["counts"]) if "counts" in parts else max(map(len, parts.values()))
    parts = {role: np.repeat(part, n, axis=0) if len(part) == 1 else part for role, part in parts.items()}
    least = min(map(len, parts.values()))
    if least < max(map(len, parts.values())) * (1 - SHORT):
        lengths = ", ".join(f"{role} {len(part)}" for role, part in parts.items())
        raise DocumentError(f"event {event.seq_num}: numbers of frames differ: {lengths}")
    return {role: part[:least] for role, part in parts.items()}


def _count(bad: dict[str, Any]) -> dict[str, int]:
    return {reason: n for reason, frames in bad.items() if (n := int(np.count_nonzero(frames)))}
