"""The arguments of :func:`quietbeam.denoise` as arrays that fit each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from quietbeam.core.errors import InputError, MapTooLargeError
from quietbeam.core.model.evidence import Kind
from quietbeam.core.model.rows import validate_rows
from quietbeam.core.model.types import BoolArray, FloatArray, NumericArray

MAX_COUNTS = 2.0**31
"""Of a pixel."""


@dataclass(frozen=True, slots=True)
class MapInput:
    """A finished map whose arrays fit each other, see :func:`denoise`."""

    counts: NumericArray
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    kind: Kind
    measured: BoolArray
    i0: FloatArray | None
    live_time_s: FloatArray | None


def check_map(
    counts: Any, lines: Any, detectors: Any, i0: Any, live_time_s: Any, measured: Any, kind: Kind | None
) -> MapInput:
    """Return the map of the arguments of :func:`quietbeam.denoise`.

    Raises
    ------
    InputError
        When axes, names or values are not usable, or the memory is too small; the message says what to change.
    """
    values = _array(counts, "counts")
    if values.ndim == 4:
        _check_memory(values)
    validate_rows(values, kind="areas")  # whole numbers are asked for block by block
    n_det, n_line, rows, cols = values.shape
    valid: BoolArray = np.ones((rows, cols), bool)
    if values.dtype.kind == "f":
        valid = np.asarray(np.isfinite(values).any((0, 1)))
        if not valid.any():
            raise InputError("counts are NaN everywhere: nothing was measured")
    kind = kind or guess_kind(values)
    if kind == "counts" and (most := float(np.nanmax(values))) > MAX_COUNTS:
        raise InputError(
            f"counts of {most:.3g} in a pixel are beyond any detector: if that is a code for no data, make it NaN"
        )
    if measured is not None:
        valid = valid & _mask(_shaped(measured, (rows, cols), "measured"))
        if not valid.any():
            raise InputError("measured leaves no pixel that was measured")
    live = None
    if live_time_s is not None:
        live = _array(live_time_s, "live_time_s")
        if live.shape == (rows, cols):
            live = np.broadcast_to(live, (n_det, rows, cols))
        live = _positive(_shaped(live, (n_det, rows, cols), "live_time_s"), "live_time_s")
    return MapInput(
        counts=values,
        lines=_names(lines, n_line, "line"),
        detectors=_names(detectors, n_det, "detector"),
        kind=kind,
        measured=valid,
        i0=None if i0 is None else _positive(_shaped(_array(i0, "i0"), (rows, cols), "i0"), "i0"),
        live_time_s=live,
    )


def guess_kind(values: NumericArray) -> Kind:
    """Return ``counts`` for whole numbers >= 0, else ``areas``."""
    if values.dtype.kind in "ui":
        validate_rows(values)
        return "counts"
    finite = values[np.isfinite(values)]
    return "counts" if finite.min() >= 0 and bool((finite == np.rint(finite)).all()) else "areas"


def _array(values: Any, name: str) -> NumericArray:
    """Return numbers as an array; what is masked is NaN."""
    try:
        found = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    except ValueError as error:
        axes = " (detector, line, row, col)" if name == "counts" else ""
        raise InputError(f"{name} must be a full array{axes}: its rows differ in length") from error
    if found.dtype.kind not in "uif":
        raise InputError(f"{name} must be numbers, not {found.dtype}")
    if isinstance(found, np.ma.MaskedArray):
        wide = np.result_type(found.dtype, np.float32)
        return np.ma.filled(found.astype(wide), np.nan) if np.ma.is_masked(found) else np.asarray(found.data)
    return found


def _mask(values: NumericArray) -> BoolArray:
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values, 0)
    if values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise InputError("measured must say true or false of every pixel")
    return values.astype(bool)


def _positive(values: NumericArray, name: str) -> FloatArray:
    """Return beam intensity or live time, of which some values must be positive."""
    values = values.astype(np.float32)
    if not (np.isfinite(values) & (values > 0)).any():
        raise InputError(f"{name} holds no positive number: leave it out if it was not recorded")
    return values


def _names(names: Sequence[str] | None, n: int, what: str) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{what}_{i}" for i in range(n))
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(f"{what}s must be the names of {n} {what}s, not {names!r}")
    found = tuple(map(str, names))
    if len(found) != n:
        raise InputError(f"counts have {n} {what}s, but {len(found)} names were given for them")
    if len(set(found)) != n or "" in found:
        raise InputError(f"{what} names must differ and not be empty: {', '.join(found)}")
    return found


def _shaped(values: Any, shape: tuple[int, ...], name: str) -> NumericArray:
    values = np.asanyarray(values)
    if values.shape != shape:
        raise InputError(f"{name} must have shape {shape} like the counts, not {values.shape}")
    return values


def _check_memory(values: NumericArray) -> None:
    """Refuse before allocation what cannot fit: counts and their held-out part as float32, and the maps."""
    n_det, n_line, rows, cols = values.shape
    need = 4 * rows * cols * n_line * (2 * n_det + 24) + 2**29
    free = psutil.virtual_memory().available
    if need > free:
        raise MapTooLargeError(
            f"this map needs about {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free: "
            "choose fewer lines, or sum detectors into groups"
        )
