"""How long must I still count? Per line, the dwell that a wanted signal-to-noise ratio takes, raw and denoised.

The signal-to-noise ratio (SNR) of a map is its mean over its root mean squared error, both per pixel::

    SNR = mean(map) / sqrt(mean((map - truth)**2))

For Poisson counts the squared error of the raw map is its variance, which is its mean ``m`` (counts per pixel of the
detector sum), so ``SNR_raw = m / sqrt(m) = sqrt(m)``: it grows with the square root of the dwell. The dwell gain is
``G = MSE(raw) / MSE(denoised)`` by definition (:class:`~quietbeam.core.model.evidence.LineEvidence`), so
``SNR_denoised = SNR_raw * sqrt(G)``, and a wanted ``SNR`` takes the present dwell times

- raw: ``f = SNR**2 / m``;
- denoised: ``x = SNR**2 / (m * G_low)``, reached where ``x <= 1``. Beyond, the dwell gain falls as counts grow, as
  ``dwell**-GAIN_FALL``; ``m * f * G_low * f**-GAIN_FALL = SNR**2`` gives ``f = x**(1 / (1 - GAIN_FALL))``, and
  never more than raw takes.

The raw figures are counting statistics; the denoised ones for a longer dwell are a prediction.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .evidence import LineEvidence, RunEvidence
from .types import RunInfo

GAIN_FALL = 0.35
"""Exponent by which the dwell gain falls with exposure, as the evidence assumes too (docs/science.md). With the lower
end of the interval it makes the advised dwell rather too long than too short (docs/how-to/how-long-to-count.md)."""
MIN_COUNTS = 100
"""Counts of a line in all measured pixels, below which its mean (then worse than 10 %) says nothing about its SNR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAdvice:
    """What a wanted SNR takes for one line. None where nothing can be said; `reason` says why.

    Attributes
    ----------
    snr_raw, snr_denoised
        SNR now, per pixel, mean over the map.
    snr_denoised_low
        The same from the lower end of the dwell gain's 95 % interval.
    factor_raw, factor_denoised
        Wanted dwell over the present dwell; at most 1 where the wanted SNR is reached. `factor_denoised` rests on the
        lower end of the interval: enough in most cases.
    factor_denoised_likely
        The same from the dwell gain itself: enough in about half of the cases.
    passes_raw, passes_denoised
        Scans like this one, this one included, whose counts must be added.
    dwell_raw_s, dwell_denoised_s
        Dwell per pixel in seconds; None also where the present dwell is not known.
    """

    line: str
    snr_raw: float | None = None
    snr_denoised: float | None = None
    snr_denoised_low: float | None = None
    factor_raw: float | None = None
    factor_denoised: float | None = None
    factor_denoised_likely: float | None = None
    passes_raw: int | None = None
    passes_denoised: int | None = None
    dwell_raw_s: float | None = None
    dwell_denoised_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAdvice:
    """Advice for all lines of a run.

    Attributes
    ----------
    snr
        Wanted SNR.
    dwell_s
        Present dwell per pixel in seconds, or None.
    rows
        Measured rows that the evidence rests on; `final` as there.
    """

    snr: float
    dwell_s: float | None
    rows: int
    final: bool
    lines: tuple[LineAdvice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        data = asdict(self)
        data["lines"] = list(data["lines"])
        return data


def advise(info: RunInfo, evidence: RunEvidence, snr: float) -> RunAdvice:
    """Say for every line what the wanted `snr` (above 0) takes."""
    lines = tuple(_advise_line(info, evidence, line, snr) for line in evidence.lines)
    return RunAdvice(snr=snr, dwell_s=info.dwell_s, rows=evidence.rows, final=evidence.final, lines=lines)


def _advise_line(info: RunInfo, evidence: RunEvidence, line: LineEvidence, snr: float) -> LineAdvice:
    if evidence.kind != "counts":
        return LineAdvice(line=line.line, reason="fitted areas: their counts, and so their SNR, are not known")
    mean = line.mean_counts
    if not mean * evidence.rows * info.shape[1] >= MIN_COUNTS:  # also for NaN
        return LineAdvice(line=line.line, reason=f"too few counts yet: fewer than {MIN_COUNTS} in {evidence.rows} rows")
    factor_raw = snr**2 / mean
    raw: dict[str, Any] = {
        "line": line.line,
        "snr_raw": math.sqrt(mean),
        "factor_raw": factor_raw,
        "passes_raw": _passes(factor_raw),
        "dwell_raw_s": _seconds(factor_raw, info.dwell_s),
    }
    gain, low = line.dwell_gain, line.dwell_gain_low
    if not line.improved:
        tested = (
            "no estimate proved better than raw" if line.verdict == "kept_raw" else "the denoised map is not tested"
        )
        return LineAdvice(**raw, reason=f"{tested}: count on raw")
    if not gain or not low or gain <= 0 or low <= 0:
        return LineAdvice(**raw, reason="the dwell gain or its lower bound is not measured: count on raw")
    factor = _factor(factor_raw, low)
    return LineAdvice(
        **raw,
        snr_denoised=math.sqrt(mean * gain),
        snr_denoised_low=math.sqrt(mean * low),
        factor_denoised=factor,
        factor_denoised_likely=_factor(factor_raw, gain),
        passes_denoised=_passes(factor),
        dwell_denoised_s=_seconds(factor, info.dwell_s),
    )


def _factor(factor_raw: float, gain: float) -> float:
    """Return the dwell factor that a denoised map takes where the raw one takes `factor_raw`."""
    factor = factor_raw / gain
    return factor if factor <= 1 else min(factor ** (1 / (1 - GAIN_FALL)), max(factor_raw, 1.0))


def _passes(factor: float) -> int:
    return max(1, math.ceil(factor * (1 - 1e-9)))


def _seconds(factor: float, dwell_s: float | None) -> float | None:
    return None if dwell_s is None else factor * dwell_s
