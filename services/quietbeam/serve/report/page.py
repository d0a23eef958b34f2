"""A run on one page that needs nothing else: maps with scales, evidence, detectors, provenance; HTML, no scripts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from quietbeam.core.model.advice import advise
from quietbeam.core.model.display import orientation_of
from quietbeam.core.model.evidence import LineEvidence, RunEvidence, interval
from quietbeam.core.model.types import FloatArray, PixelOrder, RunInfo
from quietbeam.core.version import __version__
from quietbeam.core.wire.runs import RunStatus

from ..state.maps import MapKind, MapReader
from ..state.units import UnitTable
from .densities import density_table
from .figures import Figure, colour_bar, draw_figure, draw_whisker, unit_of

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'self'"
MOST_PIXELS = 2**22
"""Pixels of a map up to which a report has pictures."""
MAX_LINES = 60
_ESTIMATORS = {
    "raw": "raw",
    "smoother": "smoother",
    "pretrained": "network",
    "fine_tuned": "fine-tuned network",
    "nonlocal": "non-local means",
    "combined": "combination",
}
_WANTED_SNR = 10.0


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html")


def make_report(status: RunStatus, maps: MapReader, units: UnitTable | None = None) -> str:
    """Return the page of a run, with areal densities where `units` has them.

    Raises
    ------
    NotMeasuredError
        The run has no maps (yet).
    """
    info = status.info
    kinds: tuple[MapKind, ...] = ("raw", "denoised", "uncertainty")
    pictures = info is None or info.shape[0] * info.shape[1] <= MOST_PIXELS
    stacks = {kind: maps.read(status, kind).values for kind in kinds if pictures}
    assert info is not None  # a run with maps has a geometry
    warnings = list(status.all_warnings)
    if not pictures:
        warnings.append(f"a map of {info.shape[0]} × {info.shape[1]} pixels is too large for pictures here")
    evidence = status.evidence
    known = {line.line: line for line in evidence.lines} if evidence else {}
    lines = [known[name] for name in info.lines if name in known]
    most = max([10.0, *(line.dwell_gain_high or line.dwell_gain or 1.0 for line in lines)])
    return _template().render(
        title=f"Run {status.uid[:8]}" + (f", scan {info.scan_id}" if info.scan_id is not None else ""),
        sentence=_sentence(status, info),
        summary=_summary(known, info),
        about_run=_about_run(status, info),
        evidence=[_evidence_row(line, most) for line in lines],
        most_gain=most,
        snr=_WANTED_SNR,
        advice=_advice(status, info),
        densities=density_table(status, maps, units),
        notes=[*(evidence.notes if evidence else ()), *warnings],
        map_size=_map_size(info),
        colour_bar=colour_bar(),
        maps=[
            {
                "name": line,
                "figures": _figures({kind: stacks[kind][j] for kind in kinds}, known.get(line), status, info),
            }
            for j, line in enumerate(info.lines[: MAX_LINES if pictures else 0])
        ],
        more_lines=len(info.lines) - MAX_LINES,
        detectors=_detectors(status, info),
        provenance=_provenance(status, info),
        start_document=json.dumps(dict(info.metadata), indent=1, default=str),
    )


def _sentence(status: RunStatus, info: RunInfo) -> str:
    rows, cols = info.shape
    measured = f"{status.pixels_measured} of {rows * cols} pixels measured"
    started = _date(info.time_start)
    return f"{info.plan or 'unknown plan'}, started {started}; {status.state}: {measured}. {status.reason}".strip()


def _date(seconds: float) -> str:
    """Return a time since 1970 as a date; start documents may hold any number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"at an unusable time ({seconds:g} s since 1970)"


def _summary(known: dict[str, LineEvidence], info: RunInfo) -> str:
    better = [line for line in known.values() if line.improved]
    text = f"{len(better)} of {len(info.lines)} lines are improved, proven on photons that the network did not see"
    gains = [line.dwell_gain_low for line in better if line.dwell_gain_low is not None]
    if gains:
        text += f"; dwell gains of at least {min(gains):.1f} to {max(gains):.1f}"
    flagged = [line.line for line in known.values() if line.residual_flag]
    doubts = f" The residual shows structure in {', '.join(flagged)}." if flagged else ""
    return f"{text}.{doubts}"


ORDERS = {
    PixelOrder.VERIFIED: "as announced, confirmed by the motors' readings",
    PixelOrder.FROM_POSITIONS: "from the motors' readings, which contradict the announced order",
    PixelOrder.ASSUMED: "as announced, not checked: no motor readings came",
}


def _about_run(status: RunStatus, info: RunInfo) -> dict[str, str]:
    step = "unknown" if info.step is None else " × ".join(f"{s:g}" for s in info.step) + f" {unit_of(info)}"
    sample = info.metadata.get("sample", "")
    return {
        "run": status.uid,
        "sample": str(sample.get("name") or sample) if isinstance(sample, dict) else str(sample),
        "map": f"{info.shape[0]} × {info.shape[1]} pixels (row × col), step {step}",
        "order of pixels": ORDERS[info.order],
        "dwell": "unknown" if info.dwell_s is None else f"{info.dwell_s:g} s a pixel",
        "detectors": ", ".join(info.detectors),
        "maps": f"{status.denoise_state}, version {status.maps_version}",
        "Tiled": status.tiled_path,
    }


def _evidence_row(line: LineEvidence, most: float) -> dict[str, Any]:
    doubts = ["residual shows structure"] if line.residual_flag else []
    doubts += [] if line.improved else [f"{line.verdict.replace('_', ' ')}: {line.verdict_reason}"]
    doubts += [f"{name} left out: {why}" for name, why in line.excluded_detectors.items()]
    raw_frc = _number(line.frc_raw_pixels, ".1f")
    return {
        "name": line.line,
        "estimator": _ESTIMATORS.get(line.estimator, line.estimator),
        "interval": interval(line) if line.estimator != "raw" else "",
        "whisker": draw_whisker(line, most),
        "bias": "-" if line.total_ratio is None else f"{100 * (line.total_ratio - 1):+.1f} %",
        "counts": f"{line.mean_counts:.3g}",
        "chi2": _number(line.residual_chi2, ".2f"),
        "frc": "-" if line.frc_pixels is None else f"{line.frc_pixels:.1f} (raw {raw_frc})",
        "doubts": doubts,
    }


def _advice(status: RunStatus, info: RunInfo) -> list[tuple[str, ...]]:
    """Return how long to count for a usual SNR, for the lines that can tell."""
    if status.evidence is None:
        return []
    return [
        (
            line.line,
            _number(line.snr_raw, ".2g"),
            _number(line.snr_denoised, ".2g"),
            _dwell(line.factor_raw, line.dwell_raw_s),
            _dwell(line.factor_denoised, line.dwell_denoised_s),
        )
        for line in advise(info, status.evidence, _WANTED_SNR).lines
        if line.snr_raw is not None
    ]


def _dwell(factor: float | None, dwell_s: float | None) -> str:
    if factor is None:
        return "-"
    seconds = "" if dwell_s is None else f", {dwell_s:.2g} s a pixel"
    return "reached" if factor <= 1 else f"× {factor:.2g}{seconds}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _map_size(info: RunInfo) -> str:
    if info.step is None:
        return "The pixel size is not known."
    if info.axes and not info.axes[0]:
        length = abs(info.step[1]) * info.shape[1]
        return f"Each map is one row of {length:g} {unit_of(info)} along {info.axes[1]}."
    orientation = orientation_of(info)
    lengths = [abs(step) * n for step, n in zip(info.step, info.shape, strict=True)]
    height, width = orientation.order(lengths)
    names = info.axes if all(info.axes) and info.axes else ("slow axis", "fast axis")
    vertical, horizontal = orientation.order(names)
    return (
        f"Each map is {width:g} {unit_of(info)} wide and {height:g} {unit_of(info)} high; "
        f"{horizontal} rises to the right, {vertical} {info.vertical}wards."
    )


def _figures(
    values: dict[MapKind, FloatArray], line: LineEvidence | None, status: RunStatus, info: RunInfo
) -> list[Figure]:
    """Return one line's figures; raw and denoised share their colours."""
    shared = np.concatenate([values["raw"].ravel(), values["denoised"].ravel()])
    shared = shared[np.isfinite(shared)]
    top = float(np.quantile(shared, 0.998)) if shared.size else 1.0
    finite = values["uncertainty"][np.isfinite(values["uncertainty"])]
    widest = float(finite.max()) if finite.size else 1.0
    shown = "raw shown, not denoised"
    if line is not None and line.estimator != "raw":
        model = f"model {status.evidence.model}" if status.evidence and line.estimator != "smoother" else "smoother"
        shown = f"denoised, {model}, {status.denoise_rows} rows"
    figures: tuple[tuple[MapKind, str, float], ...] = (
        ("raw", "raw", top),
        ("denoised", shown, top),
        ("uncertainty", "one standard error", widest),
    )
    return [
        draw_figure(kind, caption, values[kind], high if high > 0 else 1.0, info) for kind, caption, high in figures
    ]


def _detectors(status: RunStatus, info: RunInfo) -> list[tuple[str, ...]]:
    found = status.evidence.detectors if status.evidence else ()
    total = sum(detector.total_counts for detector in found) or 1.0
    return [
        (
            detector.detector,
            f"{100 * detector.total_counts / total:.1f} %",
            f"{100 * detector.drift:.1f} %",
            f"{len(detector.gains)} of {len(info.lines)}",
        )
        for detector in found
    ]


def _provenance(status: RunStatus, info: RunInfo) -> dict[str, str]:
    evidence = status.evidence
    return {
        "quietbeam": __version__,
        "weights": f"{evidence.model}, sha256 {evidence.model_sha256}" if evidence else "none",
        "fine-tuning": f"{evidence.fine_tune_steps} steps, {evidence.fine_tune_s:.1f} s" if evidence else "none",
        "rows judged": _rows_judged(evidence),
        "documents from": info.source,
        "profile": info.profile,
    }


def _rows_judged(evidence: RunEvidence | None) -> str:
    if evidence is None:
        return "none"
    state = ", refined" if evidence.refined else ", final" if evidence.final else ""
    return f"{evidence.rows}{state}"
