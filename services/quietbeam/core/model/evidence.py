"""The evidence that travels with every denoised map, as plain values.

Written by the denoiser, read by publish, serve and the command line. All figures come from the data at hand;
none needs the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Estimator = Literal["raw", "smoother", "pretrained", "fine_tuned", "nonlocal", "combined"]
CountKind = Literal["counts", "areas"]
"""Whole photon counts, or fitted areas. Not to be confused with `MapKind`, one of the maps of a run."""
Kind = CountKind
"""Former name."""
Verdict = Literal["improved", "kept_raw", "not_tested"]
VERDICT_REASONS: Mapping[Verdict, str] = {
    "improved": "Held-out data prove that the published map has a smaller error than raw.",
    "kept_raw": "No estimate proved better than raw on held-out data, so raw is published.",
    "not_tested": "Nothing could be held out, so no estimate was tested.",
}
"""What each verdict means; the reason of a verdict that is given without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvidence:
    """What held-out photons say about one line's map.

    Attributes
    ----------
    line
        Emission line, ``Fe_Ka``.
    estimator
        The estimate that won on held-out photons and is published for this line.
    verdict
        ``improved``: held-out data prove that the published map has a smaller error than raw. ``kept_raw``: estimates
        were tested, none proved better, raw is published. ``not_tested``: nothing could be held out.
    verdict_reason
        One sentence: why.
    dwell_gain
        ``MSE(raw) / MSE(published)``: how many times longer the raw map would have to be acquired to have the same
        error. ``None`` when it cannot be measured. 1.0 for ``kept_raw``.
    dwell_gain_low, dwell_gain_high
        95 % interval of the dwell gain (bootstrap over blocks of pixels).
    candidates
        Dwell gain of every estimator that was tried, by name.
    weights
        Estimates that the published map is made of; several for ``combined``.
    total_ratio
        Total of the published map over the total of held-out counts at the same exposure.
    slope
        Slope of held-out counts against the published map (1 is unbiased).
    mean_counts
        Mean counts per measured pixel of the detector sum.
    residual_chi2
        Mean of ``((raw - denoised) / sigma)**2``; 1 for white residuals of the right size.
    residual_flag
        True when the residual shows structure that noise does not explain.
    residual_p
        Chance that pure noise differs as much from the published map, in the worst box of 5 x 5 pixels, as held-out
        counts do.
    residual_worst_row, residual_worst_col
        Where that box is.
    frc_pixels, frc_raw_pixels
        Resolution [pixels per period] of the published and of the raw map by Fourier ring correlation with held-out raw
        counts at 1/7; 2 is the best there can be, None where nothing correlates. ``..._half_bit_...``: at half a bit.
    false_structure
        Structure that the estimate prints into lines without any, in units of raw noise: 0 is a constant.
    coverage_68
        Share of held-out counts within one combined standard error of the published map; 0.68 is right.
    excluded_detectors
        Detectors left out for this line, each with the reason.
    """

    line: str
    estimator: Estimator
    verdict: Verdict
    verdict_reason: str = ""
    dwell_gain: float | None = None
    dwell_gain_low: float | None = None
    dwell_gain_high: float | None = None
    candidates: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    total_ratio: float | None = None
    slope: float | None = None
    mean_counts: float = 0.0
    residual_chi2: float | None = None
    residual_flag: bool = False
    residual_p: float | None = None
    residual_worst_row: int | None = None
    residual_worst_col: int | None = None
    frc_pixels: float | None = None
    frc_raw_pixels: float | None = None
    frc_half_bit_pixels: float | None = None
    frc_raw_half_bit_pixels: float | None = None
    false_structure: float | None = None
    coverage_68: float | None = None
    excluded_detectors: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.verdict_reason:
            object.__setattr__(self, "verdict_reason", VERDICT_REASONS[self.verdict])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LineEvidence:
        """Build from plain JSON types, also as version 0.1 wrote them; unknown keys of newer versions are ignored."""
        known = {f.name for f in fields(cls)}
        verdict = data.get("verdict") or _verdict_before_0_2(data)
        return cls(**{k: v for k, v in data.items() if k in known} | {"verdict": verdict})

    @property
    def improved(self) -> bool:
        """True when held-out data prove that the published map has a smaller error than raw."""
        return self.verdict == "improved"


def _verdict_before_0_2(line: Mapping[str, Any]) -> Verdict:
    """Return the verdict of a line that was written with ``proven``, which was True also where raw was published."""
    if not line.get("proven", True):
        return "not_tested"
    if line.get("estimator") != "raw":
        return "improved"
    return "kept_raw" if line.get("candidates", True) else "not_tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorEvidence:
    """How well one detector does.

    Attributes
    ----------
    detector
        Its name.
    gains
        Its share of the detector sum, per line; lines for which it is left out are missing.
    total_counts
        Counts of all lines so far (areas of fitted runs).
    drift
        Smooth relative variation against the other detectors over the map (1 sigma), beyond noise.
    live_time_s
        Live time of a pixel to which the maps are normalised (the median); None where it was not recorded.
    """

    detector: str
    gains: Mapping[str, float] = field(default_factory=dict)
    total_counts: float = 0.0
    drift: float = 0.0
    live_time_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """Evidence of a whole run at one moment.

    Attributes
    ----------
    rows
        Number of measured rows that were evaluated.
    model
        Version of the pretrained weights; ``model_sha256`` their checksum.
    detectors
        Every detector, in the order of the run.
    fine_tune_steps, fine_tune_s
        Optimizer steps and seconds spent on this very run.
    loss
        Loss of the latest fine-tuning steps, or None before the first.
    final
        True when the run has ended and every row of it went into the maps.
    refined
        True for final maps that were improved without haste: more fine-tuning, an average over flips, more estimates
        to choose from.
    i0
        I0 to which the maps are normalised (the median over the pixels); None where it was not recorded.
    jitter_pixels, jitter_rows
        Relative variation (1 sigma) that all lines share from pixel to pixel and from row to row after I0 and live
        time: beam or dwell jitter, which all detectors see alike and no denoiser can tell from the specimen. The first
        also holds the specimen's own finest structure, so it is an upper limit. None where it cannot be told.
    notes
        Sentences for people: fallbacks, doubts, what was left out.
    """

    rows: int
    lines: tuple[LineEvidence, ...]
    detectors: tuple[DetectorEvidence, ...] = ()
    kind: CountKind = "counts"
    model: str = ""
    model_sha256: str = ""
    fine_tune_steps: int = 0
    fine_tune_s: float = 0.0
    loss: float | None = None
    final: bool = False
    refined: bool = False
    i0: float | None = None
    jitter_pixels: float | None = None
    jitter_rows: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        data = asdict(self)
        data["lines"] = [dict(line) for line in data["lines"]]
        data["detectors"] = [dict(detector) for detector in data["detectors"]]
        data["notes"] = list(self.notes)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunEvidence:
        """Build from :meth:`to_dict`; unknown keys of newer versions are ignored."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in data.items() if k in known}
        values["lines"] = tuple(LineEvidence.from_dict(line) for line in values.get("lines", ()))
        known = {f.name for f in fields(DetectorEvidence)}
        values["detectors"] = tuple(
            DetectorEvidence(**{k: v for k, v in one.items() if k in known}) for one in values.get("detectors", ())
        )
        values["notes"] = tuple(values.get("notes", ()))
        return cls(**values)

    def line(self, name: str) -> LineEvidence | None:
        """Return the evidence of line ``name``, or None."""
        return next((line for line in self.lines if line.line == name), None)


def interval(line: LineEvidence) -> str:
    """Return the 95 % interval of the dwell gain in words; where it has no upper end, the lower bound."""
    low, high = line.dwell_gain_low, line.dwell_gain_high
    if low is None:
        return "not known" if line.dwell_gain is not None and line.improved else "-"
    return f"{low:.1f} to {high:.1f}" if high is not None else f"at least {low:.1f}"
