"""Sentences for people about what was left out, what differs, and what could not be tested."""

from __future__ import annotations

import numpy as np

from ..data.counts import RunCounts
from .gate import Choice

DRIFT_LIMIT = 0.04
SCATTER_LIMIT = 2.0
JITTER_LIMIT = 0.02


def notes_of(data: RunCounts, choices: list[Choice], jitter_rows: float | None = None) -> list[str]:
    """Return what people should know of a run's detectors and lines."""
    notes = []
    excluded: dict[str, int] = {}
    for reasons in data.gains.reasons:
        for detector in reasons:
            excluded[detector] = excluded.get(detector, 0) + 1
    notes += [f"detector {name} is left out for {count} of {len(data.lines)} lines" for name, count in excluded.items()]
    notes += [
        f"detector {name}: {count} pixels that it alone saw far above noise are left out"
        for name, count in zip(data.detectors, data.glitches.tolist(), strict=True)
        if count
    ]
    if data.missing is not None:
        lit = (data.sums("all").exposure > 0).sum((1, 2))
        least = int((data.exposure > 0).any(0).sum())
        for line, there in zip(data.lines, lit.tolist(), strict=True):
            if there < least:
                what = "nothing was measured" if not there else f"{least - there} pixels were not measured"
                notes.append(f"line {line}: {what}; its maps are 0 with error 0 there")
    for name, drift in zip(data.detectors, data.gains.drift, strict=True):
        if drift > DRIFT_LIMIT:
            notes.append(
                f"detector {name} differs smoothly from the others by {100 * drift:.0f} % over the map "
                "(rough specimen or drift); the published map is that of the detectors' sum"
            )
    if jitter_rows is not None and jitter_rows > JITTER_LIMIT:
        notes.append(
            f"rows differ together by {100 * jitter_rows:.1f} % in all lines"
            + (" after I0 and live time" if data.i0 is not None else "; no I0 was recorded")
            + ": beam or dwell jitter, which every detector sees alike and no denoiser removes"
        )
    scatter = np.where(data.gains.included, data.gains.scatter, np.nan)
    if data.kind == "counts" and np.isfinite(scatter).any():
        worst = np.nanmax(np.nan_to_num(scatter, nan=0.0), axis=0)
        loud = [f"{n} ({w:.1f})" for n, w in zip(data.lines, worst, strict=True) if w > SCATTER_LIMIT]
        if loud:
            notes.append(
                "detectors differ from pixel to pixel by more than counting noise (variance ratio): " + ", ".join(loud)
            )
    kept_raw = [n for n, c in zip(data.lines, choices, strict=True) if c.verdict == "kept_raw"]
    if kept_raw:
        notes.append("no estimate proved better than raw for " + ", ".join(kept_raw))
    untested = [n for n, c in zip(data.lines, choices, strict=True) if c.verdict == "not_tested"]
    if untested:
        notes.append("no estimate could be tested for " + ", ".join(untested))
    return notes
