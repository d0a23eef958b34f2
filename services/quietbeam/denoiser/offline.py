"""Denoise a finished map: the same session as live, fed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import Kind, RunEvidence
from quietbeam.core.model.types import BoolArray, FloatArray

from .estimators.networks import free_cores, own_threads
from .options import DenoiseOptions
from .session import DenoiseSession

MOST_COUNTS = 2.0**31
"""Of a pixel."""


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
    i0: Any = None,
    live_time_s: Any = None,
    measured: Any = None,
    detectors: Sequence[str] | None = None,
    kind: Kind | None = None,
    device: str = "auto",
    budget_s: float = 30.0,
    steps: int | None = None,
    fine_tune: bool = True,
    seed: int = 0,
    weights: str = "",
    progress: Callable[[str, float], None] | None = None,
    options: DenoiseOptions | None = None,
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
    kind
        ``counts`` or ``areas``; judged by the numbers when left out.
    budget_s
        Most seconds of fine-tuning on this very map.
    steps
        Most steps of fine-tuning, in place of ``budget_s``: for results that do not depend on how fast the machine is.
    seed
        Fixes every random draw. How many steps fit into ``budget_s`` is up to the clock.
    weights
        A ``.safetensors`` file with its card beside it, or the name of shipped weights; the newest when left out.
    progress
        Called with what is being done and its share.

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
    """
    values = _array(counts, "counts")
    if values.ndim != 4 or 0 in values.shape:
        raise InputError(
            f"counts must have axes (detector, line, row, col), all at least 1; got shape {values.shape}"
            + (" - add an axis for a single detector: counts[None]" if values.ndim == 3 else "")
        )
    _check_settings(budget_s, steps, seed, kind, device)
    n_det, n_line, rows, cols = values.shape
    names = _names(lines, n_line, "line")
    detector_names = _names(detectors, n_det, "detector")
    _check_memory(values)
    finite = np.isfinite(values) if values.dtype.kind == "f" else None
    if finite is not None:
        if np.isinf(values).any():
            raise InputError("counts hold infinities; mark such pixels as not measured (NaN)")
        if not finite.any():
            raise InputError("counts are NaN everywhere: nothing was measured")
    kind = kind or guess_kind(values)
    if kind == "counts" and (most := float(np.nanmax(values))) > MOST_COUNTS:
        raise InputError(
            f"counts of {most:.3g} in a pixel are beyond any detector: if that is a code for no data, make it NaN"
        )
    lit = np.ones((rows, cols), bool) if finite is None else finite.any((0, 1))
    if measured is not None:
        lit = lit & _mask(_shaped(measured, (rows, cols), "measured"))
        if not (lit if finite is None else lit & finite.any((0, 1))).any():
            raise InputError("measured leaves no pixel that was measured")
    live = None
    if live_time_s is not None:
        live = _array(live_time_s, "live_time_s")
        if live.shape == (rows, cols):
            live = np.broadcast_to(live, (n_det, rows, cols))
        live = _positive(_shaped(live, (n_det, rows, cols), "live_time_s"), "live_time_s")
    beam = None if i0 is None else _positive(_shaped(_array(i0, "i0"), (rows, cols), "i0"), "i0")
    settings = options or DenoiseOptions(threads=free_cores())
    with own_threads():
        session = DenoiseSession(
            lines=names,
            detectors=detector_names,
            shape=(rows, cols),
            kind=kind,
            device=device,
            seed=seed,
            settings=replace(settings, weights=weights) if weights else settings,
        )
        step = max(1, 4_000_000 // (n_det * n_line * cols))
        for first in range(0, rows, step):
            block = slice(first, min(first + step, rows))
            session.add_rows(
                first,
                values[:, :, block],
                lit[block],
                None if beam is None else beam[block],
                None if live is None else live[:, block],
            )
            if progress:
                progress("read", block.stop / rows)
        if not fine_tune:
            budget_s, steps = 0.0, None
        update, evidence = session.finalize(budget_s, progress, steps=steps)
    return DenoiseResult(
        lines=names,
        detectors=detector_names,
        denoised=update.denoised,
        raw=update.raw,
        uncertainty=update.uncertainty,
        chi2=update.chi2,
        measured=np.asarray((session.data.exposure > 0).any(0)),
        evidence=evidence,
    )


def guess_kind(values: NDArray[Any]) -> Kind:
    """Return ``counts`` for whole numbers >= 0, else ``areas``."""
    if values.dtype.kind == "u":
        return "counts"
    if values.dtype.kind == "i":
        if values.min() < 0:
            raise InputError("negative counts; photon counts are >= 0, fitted areas must be floating point")
        return "counts"
    good = values[np.isfinite(values)]
    return "counts" if good.min() >= 0 and bool((good == np.rint(good)).all()) else "areas"


def _check_settings(budget_s: float, steps: int | None, seed: int, kind: str | None, device: str) -> None:
    if not isinstance(budget_s, int | float) or not budget_s >= 0:
        raise InputError(f"budget_s is the most seconds of fine-tuning, at least 0; got {budget_s!r}")
    for name, number in (("seed", seed), ("steps", 0 if steps is None else steps)):
        if not isinstance(number, int | np.integer) or number < 0:
            raise InputError(f"{name} must be a whole number of at least 0; got {number!r}")
    if kind not in (None, "counts", "areas"):
        raise InputError(f"kind must be 'counts' or 'areas', or left out; got {kind!r}")
    if not isinstance(device, str):
        raise InputError(f"device must be a name such as 'auto', 'cpu' or 'cuda'; got {device!r}")


def _array(values: Any, name: str) -> NDArray[Any]:
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


def _mask(values: NDArray[Any]) -> BoolArray:
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values, 0)
    if values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise InputError("measured must say true or false of every pixel")
    return values.astype(bool)


def _positive(values: NDArray[Any], name: str) -> FloatArray:
    """Return beam or live time, of which some must be there: without any, leave it out."""
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


def _shaped(values: Any, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    values = np.asanyarray(values)
    if values.shape != shape:
        raise InputError(f"{name} must have shape {shape} like the counts, not {values.shape}")
    return values


def _check_memory(values: NDArray[Any]) -> None:
    """Refuse before allocation what cannot fit: counts and their held-out part as float32, and the maps."""
    n_det, n_line, rows, cols = values.shape
    need = 4 * rows * cols * n_line * (2 * n_det + 24) + 2**29
    free = psutil.virtual_memory().available
    if need > free:
        raise InputError(
            f"this map needs about {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free: "
            "choose fewer lines, or sum detectors into groups"
        )
