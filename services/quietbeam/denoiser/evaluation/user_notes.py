"""Sentences for the user about what was left out, what differs, and what could not be tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ..data.counts import RunCounts
from .gate import Choice

DRIFT_LIMIT = 0.04
SCATTER_LIMIT = 2.0
JITTER_LIMIT = 0.02


def user_notes(data: RunCounts, choices: Sequence[Choice], jitter_rows: float | None = None) -> list[str]:
    """Return the notes on a run's detectors and lines; ``jitter_rows`` is the jitter that all lines share, by rows."""
    return [
        *_excluded(data),
        *_missing_pixels(data),
        *_drift(data),
        *_jitter(data, jitter_rows),
        *_scatter(data),
        *_verdicts(data, choices),
    ]


def _excluded(data: RunCounts) -> Iterator[str]:
    excluded = Counter(detector for reasons in data.gains.reasons for detector in reasons)
    for name, count in excluded.items():
        yield f"detector {name} is left out for {count} of {len(data.lines)} lines"
    for name, count in zip(data.detectors, data.glitches.tolist(), strict=True):
        if count:
            yield f"detector {name}: {count} pixels that it alone saw far above noise are left out"


def _missing_pixels(data: RunCounts) -> Iterator[str]:
    if data.missing is None:
        return
    measured = (data.sums("all").exposure > 0).sum((1, 2))
    pixels = int((data.exposure > 0).any(0).sum())
    for line, count in zip(data.lines, measured.tolist(), strict=True):
        if count < pixels:
            what = "nothing was measured" if not count else f"{pixels - count} pixels were not measured"
            yield f"line {line}: {what}; its maps are 0 with error 0 there"


def _drift(data: RunCounts) -> Iterator[str]:
    for name, drift in zip(data.detectors, data.gains.drift, strict=True):
        if drift > DRIFT_LIMIT:
            yield (
                f"detector {name} differs smoothly from the others by {100 * drift:.0f} % over the map "
                "(rough specimen or drift); the published map is that of the detectors' sum"
            )


def _jitter(data: RunCounts, jitter_rows: float | None) -> Iterator[str]:
    if jitter_rows is not None and jitter_rows > JITTER_LIMIT:
        yield (
            f"rows differ together by {100 * jitter_rows:.1f} % in all lines"
            + (" after I0 and live time" if data.i0 is not None else "; no I0 was recorded")
            + ": beam or dwell jitter, which every detector sees alike and no denoiser removes"
        )


def _scatter(data: RunCounts) -> Iterator[str]:
    scatter = np.where(data.gains.included, data.gains.scatter, np.nan)
    if data.kind != "counts" or not np.isfinite(scatter).any():
        return
    worst = np.nanmax(np.nan_to_num(scatter, nan=0.0), axis=0)
    noisy = [f"{line} ({w:.1f})" for line, w in zip(data.lines, worst, strict=True) if w > SCATTER_LIMIT]
    if noisy:
        yield "detectors differ from pixel to pixel by more than counting noise (variance ratio): " + ", ".join(noisy)


def _verdicts(data: RunCounts, choices: Sequence[Choice]) -> Iterator[str]:
    for verdict, note in (
        ("kept_raw", "no estimate proved better than raw for "),
        ("not_tested", "no estimate could be tested for "),
    ):
        lines = [line for line, choice in zip(data.lines, choices, strict=True) if choice.verdict == verdict]
        if lines:
            yield note + ", ".join(lines)
