"""Denoise a finished map: the same session as live, fed at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.evidence import Kind, RunEvidence

from .networks import free_cores
from .options import DenoiseOptions
from .session import DenoiseSession

Array = NDArray[np.float32]


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
        (row, col) bool; the maps are 0 elsewhere.
    evidence
        What held-out photons say, per line.
    """

    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    denoised: Array
    raw: Array
    uncertainty: Array
    chi2: Array
    measured: NDArray[np.bool_]
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
    fine_tune: bool = True,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    options: DenoiseOptions | None = None,
) -> DenoiseResult:
    """Denoise a map.

    Parameters
    ----------
    counts
        (detector, line, row, col); whole photon counts, or fitted areas (float, may be negative). NaN is not measured.
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
    """
    try:
        values = np.asarray(counts)
    except ValueError as error:
        raise InputError("counts must be a full array (detector, line, row, col): its rows differ in length") from error
    if budget_s < 0:
        raise InputError(f"budget_s is the most seconds of fine-tuning, at least 0; got {budget_s:g}")
    if values.dtype.kind not in "uif":
        raise InputError(f"counts must be numbers, not {values.dtype}")
    if values.ndim != 4 or 0 in values.shape:
        raise InputError(
            f"counts must have axes (detector, line, row, col), all at least 1; got shape {values.shape}"
            + (" - add an axis for a single detector: counts[None]" if values.ndim == 3 else "")
        )
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
    lit = np.ones((rows, cols), bool) if finite is None else finite.any((0, 1))
    if measured is not None:
        lit = lit & _shaped(measured, (rows, cols), "measured").astype(bool)
    session = DenoiseSession(
        lines=names,
        detectors=detector_names,
        shape=(rows, cols),
        kind=kind,
        device=device,
        seed=seed,
        settings=options or DenoiseOptions(threads=free_cores()),
    )
    live = None
    if live_time_s is not None:
        live = np.asarray(live_time_s, np.float32)
        if live.shape == (rows, cols):
            live = np.broadcast_to(live, (n_det, rows, cols))
        live = _shaped(live, (n_det, rows, cols), "live_time_s")
    beam = None if i0 is None else _shaped(np.asarray(i0, np.float32), (rows, cols), "i0")
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
    update, evidence = session.finalize(budget_s if fine_tune else 0.0, progress)
    return DenoiseResult(
        lines=names,
        detectors=detector_names,
        denoised=update.denoised,
        raw=update.raw,
        uncertainty=update.uncertainty,
        chi2=update.chi2,
        measured=session.data.measured,
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


def _names(names: Sequence[str] | None, n: int, what: str) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{what}_{i}" for i in range(n))
    if isinstance(names, str) or len(names) != n:
        got = f"the string {names!r}" if isinstance(names, str) else f"{len(names)} names"
        raise InputError(f"counts have {n} {what}s, but {got} were given for them")
    if len(set(names)) != n:
        raise InputError(f"{what} names must differ: {', '.join(map(str, names))}")
    return tuple(map(str, names))


def _shaped(values: Any, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    values = np.asarray(values)
    if values.shape != shape:
        raise InputError(f"{name} must have shape {shape} like the counts, not {values.shape}")
    return values


def _check_memory(values: NDArray[Any]) -> None:
    """Refuse before allocation what cannot fit: counts and their held-out part as float32, and the maps."""
    n_det, n_line, rows, cols = values.shape
    need = 4 * rows * cols * n_line * (2 * n_det + 16) + 2**29
    free = psutil.virtual_memory().available
    if need > free:
        raise InputError(
            f"this map needs about {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free: "
            "choose fewer lines, or sum detectors into groups"
        )
