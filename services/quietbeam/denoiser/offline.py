"""Denoise a finished map: the same session as live, fed at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import numpy as np
import psutil

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import Kind, RunEvidence
from quietbeam.core.model.rows import validate_rows
from quietbeam.core.model.types import BoolArray, FloatArray, NumericArray

from .estimators.device import free_cores, restored_threads
from .options import DenoiseOptions
from .session import DenoiseSession

MAX_COUNTS = 2.0**31
"""Of a pixel."""
_DEPRECATED = ("kind", "fine_tune", "seed", "weights")
_BLOCK_VALUES = 4_000_000


class Shortcuts(TypedDict, total=False):
    """Fields of :class:`DenoiseOptions` that :func:`denoise` also takes as keywords."""

    device: str
    budget_s: float
    steps: int | None
    kind: Kind | None
    fine_tune: bool
    seed: int
    weights: str
    progress: Callable[[str, float], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseResult:
    """Maps and evidence.

    Attributes
    ----------
    denoised, raw, uncertainty
        (line, row, col) float32, counts of the summed detectors; raw is the gain-weighted detector sum.
    chi2
        (line, row, col) float32, local chi-square of the residual: about 1 where only noise is left, large where the
        map erased or invented structure.
    measured
        (row, col) bool; the maps are 0 elsewhere, also where the beam was lost.
    evidence
        What held-out photons say, per line.
    """

    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    denoised: FloatArray
    raw: FloatArray
    uncertainty: FloatArray
    chi2: FloatArray
    measured: BoolArray
    evidence: RunEvidence


def denoise(
    counts: Any,
    lines: Sequence[str] | None = None,
    *,
    detectors: Sequence[str] | None = None,
    i0: Any = None,
    live_time_s: Any = None,
    measured: Any = None,
    options: DenoiseOptions | None = None,
    on_progress: Callable[[str, float], object] | None = None,
    **shortcuts: Unpack[Shortcuts],
) -> DenoiseResult:
    """Denoise a map.

    Parameters
    ----------
    counts
        (detector, line, row, col); whole photon counts, or fitted areas (float, may be negative). What is NaN, or
        masked in a masked array, is not measured.
    lines, detectors
        Names; numbered when left out.
    i0
        (row, col) beam intensity, any unit.
    live_time_s
        (detector, row, col) or (row, col).
    measured
        (row, col) bool; pixels where anything was measured when left out.
    options
        Everything else, see :class:`DenoiseOptions`.
    on_progress
        Called with the name of the present step and its share that is done.
    device, budget_s, steps
        These three options may also be given as keywords, which win over ``options``.

    Returns
    -------
    DenoiseResult
        Maps with their evidence.

    Raises
    ------
    InputError
        When axes, names or values are not usable; the message says what to change.
    WeightsError
        When the weights are missing or damaged.

    .. deprecated:: 0.2
        The keywords ``kind``, ``fine_tune``, ``seed`` and ``weights``, which are fields of ``options``, and
        ``progress``, which is ``on_progress``.
    """
    options, on_progress = _with_shortcuts(options or DenoiseOptions(), on_progress, dict(shortcuts))
    data = _checked_map(counts, lines, detectors, i0, live_time_s, measured, options.kind)
    with restored_threads():
        threads = free_cores() if options.threads is None else options.threads
        session = DenoiseSession(
            lines=data.lines,
            detectors=data.detectors,
            shape=data.measured.shape,
            kind=data.kind,
            options=replace(options, threads=threads),
        )
        _add_blocks(session, data, on_progress)
        budget_s, steps = (options.budget_s, options.steps) if options.fine_tune else (0.0, None)
        update, evidence = session.finalize(budget_s, on_progress, steps=steps)
    return DenoiseResult(
        lines=data.lines,
        detectors=data.detectors,
        denoised=update.denoised,
        raw=update.raw,
        uncertainty=update.uncertainty,
        chi2=update.chi2,
        measured=np.asarray((session.data.exposure > 0).any(0)),
        evidence=evidence,
    )


def guess_kind(values: NumericArray) -> Kind:
    """Return ``counts`` for whole numbers >= 0, else ``areas``."""
    if values.dtype.kind in "ui":
        validate_rows(values)
        return "counts"
    finite = values[np.isfinite(values)]
    return "counts" if finite.min() >= 0 and bool((finite == np.rint(finite)).all()) else "areas"


def _with_shortcuts(
    options: DenoiseOptions, on_progress: Callable[[str, float], object] | None, keywords: dict[str, Any]
) -> tuple[DenoiseOptions, Callable[[str, float], object] | None]:
    """Return the options with the keywords in them, and the progress callback, which has an old name."""
    unknown = keywords.keys() - Shortcuts.__annotations__.keys()
    if unknown:
        raise TypeError(f"denoise() got an unexpected keyword argument {min(unknown)!r}")
    if "progress" in keywords:
        _warn("denoise(..., progress=f) is now denoise(..., on_progress=f)")
        on_progress = keywords.pop("progress") or on_progress
    if old := [name for name in _DEPRECATED if name in keywords]:
        fields = ", ".join(f"{name}={keywords[name]!r}" for name in old)
        _warn(f"pass {' and '.join(old)} as options: denoise(counts, lines, options=DenoiseOptions({fields}))")
    return replace(options, **keywords), on_progress


def _warn(message: str) -> None:
    warnings.warn(message, DeprecationWarning, stacklevel=4)


@dataclass(frozen=True, slots=True)
class _Map:
    """A finished map whose arrays fit each other, see :func:`denoise`."""

    counts: NumericArray
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    kind: Kind
    measured: BoolArray
    i0: FloatArray | None
    live_time_s: FloatArray | None


def _checked_map(
    counts: Any, lines: Any, detectors: Any, i0: Any, live_time_s: Any, measured: Any, kind: Kind | None
) -> _Map:
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
    return _Map(
        counts=values,
        lines=_names(lines, n_line, "line"),
        detectors=_names(detectors, n_det, "detector"),
        kind=kind,
        measured=valid,
        i0=None if i0 is None else _positive(_shaped(_array(i0, "i0"), (rows, cols), "i0"), "i0"),
        live_time_s=live,
    )


def _add_blocks(session: DenoiseSession, data: _Map, on_progress: Callable[[str, float], object] | None) -> None:
    """Add the map to the session in blocks of rows that need little memory beside it."""
    n_det, n_line, rows, cols = data.counts.shape
    step = max(1, _BLOCK_VALUES // (n_det * n_line * cols))
    for first in range(0, rows, step):
        block = slice(first, min(first + step, rows))
        session.add_rows(
            first,
            data.counts[:, :, block],
            data.measured[block],
            None if data.i0 is None else data.i0[block],
            None if data.live_time_s is None else data.live_time_s[:, block],
        )
        if on_progress:
            on_progress("read", block.stop / rows)


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
        raise InputError(
            f"this map needs about {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free: "
            "choose fewer lines, or sum detectors into groups"
        )
