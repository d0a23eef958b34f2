"""Frames of an Event: scalars of one pixel, arrays of a row, or one part of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import Float64Array, NumericArray

from ..documents.model import Event
from ..profile.layout import Layout
from ..profile.sections import Dataset
from .axes import arrange, conform
from .values import SHORT, Frames, combine


def frames_of(layout: Layout, event: Event) -> Frames:
    """Read the frames of one Event, or of a part of it: one (scalars, spectra) or a whole row.

    Raises
    ------
    DocumentError
        A key is missing, or the values do not fit each other.
    """
    parts: dict[str, NumericArray] = {}
    counts = _counts(layout, event)
    if counts is not None:
        parts["counts"] = counts
    if layout.i0_key:
        parts["i0"] = _read_keys((layout.i0_key,), "i0", event)[0]
    if layout.live_time_keys:
        parts["live_time_s"] = _live_time(layout, event)
    for role, key in zip(("slow", "fast"), layout.position_keys, strict=False):
        parts[role] = _read_keys((key,), role, event)[0]
    for key, (role, dataset) in layout.datasets.items():
        if role != "counts" and key in event.data:
            parts[role] = _array(layout, event, key, role, dataset)
    if not parts:
        return Frames(good=np.ones(0, bool))
    parts = _same_length(parts, event)
    slow_key, fast_key = layout.reading_keys
    if not slow_key and not fast_key:
        return combine(layout, parts)
    n = len(next(iter(parts.values())))
    slow = _readback(event.data.get(slow_key), n, repeat=True) if slow_key else None
    fast = _readback(event.data.get(fast_key), n, repeat=False) if fast_key else None
    return combine(layout, parts, slow, fast)


def _readback(value: Any, n: int, *, repeat: bool) -> Float64Array:
    """Return (frame,) readings of a motor, NaN where a frame has none; `repeat`: one reading is that of all frames."""
    if n == 1 and type(value) is float:  # a step scan
        return np.array((value,))
    if isinstance(value, int | float) and not isinstance(value, bool):
        if n == 1:
            return np.array([value], np.float64)
        return np.full(n, value if repeat else np.nan)
    try:
        values = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if len(values) == 1 and (n == 1 or repeat):
        return np.repeat(values, n)
    return values if len(values) == n else np.full(n, np.nan)


def _counts(layout: Layout, event: Event) -> NumericArray | None:
    """Return (frame, detector, line), or None when the event has no counts."""
    key = layout.array_key
    if key:
        if key not in event.data:
            return None
        return _array(layout, event, key, *layout.datasets[key])
    if layout.spectra is not None:
        spectra = [_spectra(event, key) for key in layout.keys]
        if len({s.shape for s in spectra}) > 1:
            raise DocumentError(f"event {event.seq_num}: spectra differ in shape: {[s.shape for s in spectra][:8]}")
        return conform(layout, "counts", np.stack(spectra, axis=1), f"event {event.seq_num}")
    values = _read_keys(layout.keys, "counts", event)
    values = values.reshape(len(layout.detectors), len(layout.lines), -1)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _array(layout: Layout, event: Event, key: str, role: str, dataset: Dataset) -> NumericArray:
    where = f"event {event.seq_num}: {key!r}"
    return conform(layout, role, arrange(_numbers(event.data[key], key, event), dataset.axes, where), where)


def _live_time(layout: Layout, event: Event) -> NumericArray:
    """Return (frame, detector) live times, in the unit of the layout."""
    values = _read_keys(layout.live_time_keys, "live_time_s", event).T
    if not layout.input_rate_keys:
        return values
    rates = _read_keys(layout.input_rate_keys, "live_time_s", event).T
    n = min(len(rates), len(values))
    rates = np.asarray(rates[:n], np.float64)
    return np.divide(values[:n], rates, out=np.zeros(rates.shape), where=rates > 0)


def _spectra(event: Event, key: str) -> NumericArray:
    """Return (frame, channel)."""
    values = _numbers(_value(event, key), key, event)
    if values.ndim == 0 or sum(n != 1 for n in values.shape[:-1]) > 1:
        raise DocumentError(f"event {event.seq_num}: {key!r} has shape {values.shape}, expected spectra")
    return values.reshape(-1, values.shape[-1])


def _value(event: Event, key: str) -> Any:
    if key not in event.data:
        available = ", ".join(sorted(map(str, event.data))[:20])
        raise DocumentError(f"event {event.seq_num} lacks {key!r}; keys there are: {available}")
    return event.data[key]


def _numbers(value: Any, what: str, event: Event) -> NumericArray:
    """Return a value as an array of integers or floats that is not empty."""
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


def _read_keys(keys: Sequence[str], what: str, event: Event) -> NumericArray:
    """Return (key, frame) of numbers or rows; axes of length 1 are dropped, the shortest row decides the length."""
    data = event.data
    try:
        values = [data[key] for key in keys]
    except KeyError:
        values = [_value(event, key) for key in keys]  # the error with the keys of the event
    if isinstance(values[0], int | float) and (scalars := _scalars(values)) is not None:
        return scalars
    arrays = [_numbers(value, what, event) for value in values]
    for array in arrays:
        if sum(n != 1 for n in array.shape) > 1:
            raise DocumentError(f"event {event.seq_num}: {what} have shape {array.shape}, expected a number or a row")
    shortest = min(array.size for array in arrays)
    longest = max(array.size for array in arrays)
    if shortest < longest * (1 - SHORT):
        raise DocumentError(f"event {event.seq_num}: {what} differ in length: {shortest} to {longest} frames")
    return np.stack([array.reshape(-1)[:shortest] for array in arrays])


def _scalars(values: Sequence[Any]) -> NumericArray | None:
    """Return (key, 1) of plain numbers, the usual case, in one step; None when they are not all numbers."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    return array[:, None] if array.ndim == 1 and array.dtype.kind in "iufb" else None


def _same_length(parts: dict[str, NumericArray], event: Event) -> dict[str, NumericArray]:
    """Return parts with the same number of frames: single values are repeated, longer parts cut to the shortest."""
    lengths = {role: len(part) for role, part in parts.items()}
    if len(set(lengths.values())) == 1:
        return parts
    n = lengths.get("counts", max(lengths.values()))
    parts = {role: np.repeat(part, n, axis=0) if len(part) == 1 else part for role, part in parts.items()}
    lengths = {role: len(part) for role, part in parts.items()}
    shortest = min(lengths.values())
    if shortest < max(lengths.values()) * (1 - SHORT):
        shown = ", ".join(f"{role} {n}" for role, n in lengths.items())
        raise DocumentError(f"event {event.seq_num}: numbers of frames differ: {shown}")
    return {role: part[:shortest] for role, part in parts.items()}
