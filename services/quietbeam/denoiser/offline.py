"""Denoise a finished map: the same session as live, fed at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import numpy as np

from quietbeam.core.model.evidence import Kind, RunEvidence
from quietbeam.core.model.types import BoolArray, FloatArray

from .estimators.device import free_cores, restored_threads
from .map_input import MapInput, check_map
from .options import DenoiseOptions
from .session import DenoiseSession

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
    **shortcuts
        ``device``, ``budget_s`` and ``steps`` may also be given as keywords, which win over ``options``.

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
    data = check_map(counts, lines, detectors, i0, live_time_s, measured, options.kind)
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


def _add_blocks(session: DenoiseSession, data: MapInput, on_progress: Callable[[str, float], object] | None) -> None:
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
