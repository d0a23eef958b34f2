"""A run on one page that needs nothing else: maps with scales, evidence, detectors, provenance; HTML, no scripts."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from quietbeam.buffer.run_buffer import run_path
from quietbeam.core.errors import QuietbeamError
from quietbeam.core.model.advice import advise
from quietbeam.core.model.evidence import LineEvidence, interval
from quietbeam.core.model.types import FloatArray, RunInfo
from quietbeam.core.version import __version__
from quietbeam.core.wire.runs import RunStatus

from ..live.events import EventHub
from ..render.colormaps import Colouring, draw_png
from ..state.maps import MapKind, MapReader

log = structlog.get_logger()

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'self'"
MAX_LINES = 60
_PICTURE = 320
"""Wanted width or height of a map in screen pixels."""
_CMAP = "viridis"
_STYLE = Path(__file__).with_name("report.css").read_text()
_ESTIMATORS = {
    "raw": "raw",
    "smoother": "smoother",
    "pretrained": "network",
    "fine_tuned": "fine-tuned network",
    "nonlocal": "non-local means",
    "combined": "combination",
}
_WANTED_SNR = 10.0


def make_report(status: RunStatus, maps: MapReader) -> str:
    """Return the page of a run.

    Raises
    ------
    NotMeasuredError
        The run has no maps (yet).
    """
    info = status.info
    kinds: tuple[MapKind, ...] = ("raw", "denoised", "uncertainty")
    stacks = {kind: maps.read(status, kind).values for kind in kinds}
    assert info is not None  # a run with maps has a geometry
    evidence = status.evidence
    known = {line.line: line for line in evidence.lines} if evidence else {}
    title = f"Run {status.uid[:8]}" + (f", scan {info.scan_id}" if info.scan_id is not None else "")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p class='soft'>{escape(_sentence(status, info))}</p>",
        f"<p class='summary'>{escape(_summary(known, info))}</p>",
        _facts(status, info),
        "<h2>Evidence</h2>",
        _evidence_table(known, info),
        _advice(status, info),
        _notes(status),
        "<h2>Maps</h2>",
        f"<p class='soft'>Raw and denoised have the same colours. Grey is not measured. {escape(_scale(info))}</p>",
    ]
    for j, line in enumerate(info.lines[:MAX_LINES]):
        parts.append(_line(line, {kind: stacks[kind][j] for kind in kinds}, known.get(line), status, info))
    if len(info.lines) > MAX_LINES:
        parts.append(f"<p>{len(info.lines) - MAX_LINES} more lines are not shown.</p>")
    parts += [_detectors(status, info), _provenance(status, info), "</body></html>"]
    return "\n".join(parts)


def _sentence(status: RunStatus, info: RunInfo) -> str:
    rows, cols = info.shape
    started = datetime.fromtimestamp(info.time_start, UTC).strftime("%Y-%m-%d %H:%M UTC")
    measured = f"{status.pixels_measured} of {rows * cols} pixels measured"
    return f"{info.plan or 'unknown plan'}, started {started}; {status.state}: {measured}. {status.reason}".strip()


def _summary(known: dict[str, LineEvidence], info: RunInfo) -> str:
    better = [line for line in known.values() if line.improved]
    told = f"{len(better)} of {len(info.lines)} lines are improved, proven on photons that the network did not see"
    gains = [line.dwell_gain_low for line in better if line.dwell_gain_low is not None]
    if gains:
        told += f"; dwell gains of at least {min(gains):.1f} to {max(gains):.1f}"
    flagged = [line.line for line in known.values() if line.residual_flag]
    doubts = f" The residual shows structure in {', '.join(flagged)}." if flagged else ""
    return f"{told}.{doubts}"


def _unit(info: RunInfo) -> str:
    return "µm" if info.units == "um" else info.units


def _facts(status: RunStatus, info: RunInfo) -> str:
    step = "unknown" if info.step is None else " × ".join(f"{s:g}" for s in info.step) + f" {_unit(info)}"
    sample = info.metadata.get("sample", "")
    rows = {
        "run": status.uid,
        "sample": str(sample.get("name") or sample) if isinstance(sample, dict) else str(sample),
        "map": f"{info.shape[0]} × {info.shape[1]} pixels (row × col), step {step}",
        "dwell": "unknown" if info.dwell_s is None else f"{info.dwell_s:g} s a pixel",
        "detectors": ", ".join(info.detectors),
        "maps": f"{status.denoise_state}, version {status.maps_version}",
        "Tiled": status.tiled_path,
    }
    cells = (f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows.items() if v)
    return f"<table class='facts'>{''.join(cells)}</table>"


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """Return a table of HTML cells; the first of a row names it."""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        f"<tr><th scope='row'>{cells[0]}</th>{''.join(f'<td>{cell}</td>' for cell in cells[1:])}</tr>" for cells in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _evidence_table(known: dict[str, LineEvidence], info: RunInfo) -> str:
    if not known:
        return "<p class='warn'>No evidence: the maps are the raw detector sum.</p>"
    lines = [known[name] for name in info.lines if name in known]
    most = max([10.0, *(line.dwell_gain_high or line.dwell_gain or 1.0 for line in lines)])
    rows = []
    for line in lines:
        doubts = ["residual shows structure"] if line.residual_flag else []
        doubts += [] if line.improved else [f"{line.verdict.replace('_', ' ')}: {line.verdict_reason}"]
        doubts += [f"{d} left out: {why}" for d, why in line.excluded_detectors.items()]
        frc = "-" if line.frc_pixels is None else f"{line.frc_pixels:.1f} (raw {_number(line.frc_raw_pixels, '.1f')})"
        bias = "-" if line.total_ratio is None else f"{100 * (line.total_ratio - 1):+.1f} %"
        rows.append(
            [
                escape(line.line),
                _ESTIMATORS.get(line.estimator, escape(line.estimator)),
                f"<span class='number'>{interval(line)}</span>" if line.estimator != "raw" else "raw shown",
                _whisker(line, most),
                bias,
                f"{line.mean_counts:.3g}",
                _number(line.residual_chi2, ".2f"),
                frc,
                f"<span class='warn'>{escape('; '.join(doubts))}</span>",
            ]
        )
    head = (
        "line",
        "published",
        "dwell gain",
        "1 to " + f"{most:.0f}",
        "bias",
        "counts a pixel",
        "χ²",
        "FRC, pixels",
        "",
    )
    return (
        f"{_table(head, rows)}<p class='soft'>Dwell gain, 95 % interval: how many times longer the raw map would have "
        "to be acquired to have the same error, measured on photons that the network did not see. Bias: total of the "
        "map against held-out counts. χ²: of raw minus denoised, 1 for noise. FRC: finest period that is there.</p>"
    )


def _whisker(line: LineEvidence, most: float) -> str:
    """Return the interval of the dwell gain as a small drawing, logarithmic; the line is a gain of 1."""
    if line.estimator == "raw" or line.dwell_gain is None or line.dwell_gain <= 0:
        return ""

    def at(gain: float) -> float:
        return 4 + 112 * float(np.clip(np.log(max(gain, 1e-3)) / np.log(most), -0.03, 1))

    low = at(line.dwell_gain_low if line.dwell_gain_low is not None else line.dwell_gain)
    high = at(line.dwell_gain_high) if line.dwell_gain_high is not None else 118.0 if line.dwell_gain_low else low
    return (
        "<svg width='120' height='16' role='img' aria-label='interval'><path d='M4 2v12' stroke='#aab4be'/>"
        f"<path d='M{low:.0f} 8H{high:.0f}M{low:.0f} 5v6' stroke='#0a655c' stroke-width='2'/>"
        f"<circle cx='{at(line.dwell_gain):.0f}' cy='8' r='3' fill='#0a655c'/></svg>"
    )


def _advice(status: RunStatus, info: RunInfo) -> str:
    """Return how long to count for a usual SNR; nothing where no line can tell."""
    if status.evidence is None:
        return ""
    lines = [line for line in advise(info, status.evidence, _WANTED_SNR).lines if line.snr_raw is not None]
    if not lines:
        return ""

    def takes(factor: float | None, dwell_s: float | None) -> str:
        if factor is None:
            return "-"
        seconds = "" if dwell_s is None else f", {dwell_s:.2g} s a pixel"
        return "reached" if factor <= 1 else f"× {factor:.2g}{seconds}"

    rows = [
        [
            escape(line.line),
            _number(line.snr_raw, ".2g"),
            _number(line.snr_denoised, ".2g"),
            takes(line.factor_raw, line.dwell_raw_s),
            takes(line.factor_denoised, line.dwell_denoised_s),
        ]
        for line in lines
    ]
    wanted = f"{_WANTED_SNR:g}"
    head = ("line", "SNR raw", "SNR denoised", f"dwell for {wanted}, raw", f"dwell for {wanted}, denoised")
    return (
        f"<h2>How long must one count?</h2>{_table(head, rows)}<p class='soft'>Signal-to-noise ratio of counting, mean "
        "over the map. The denoised dwell rests on the lower end of the gain's interval; far from the present dwell it "
        "is a hint.</p>"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _notes(status: RunStatus) -> str:
    notes = [*(status.evidence.notes if status.evidence else ()), *status.warnings]
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def _scale(info: RunInfo) -> str:
    if info.step is None:
        return "The pixel size is not known."
    width, height = info.step[1] * info.shape[1], info.step[0] * info.shape[0]
    return f"Each map is {width:g} {_unit(info)} wide and {height:g} {_unit(info)} high."


def _line(
    name: str, values: dict[MapKind, FloatArray], line: LineEvidence | None, status: RunStatus, info: RunInfo
) -> str:
    shared = np.concatenate([values["raw"].ravel(), values["denoised"].ravel()])
    shared = shared[np.isfinite(shared)]
    top = float(np.quantile(shared, 0.998)) if shared.size else 1.0
    how = "raw shown, not denoised"
    if line is not None and line.estimator != "raw":
        model = f"model {status.evidence.model}" if status.evidence and line.estimator != "smoother" else "smoother"
        how = f"denoised, {model}, {status.denoise_rows} rows"
    figures = []
    for kind, caption in (("raw", "raw"), ("denoised", how), ("uncertainty", "one standard error")):
        image = values[kind]  # type: ignore[index]
        finite = image[np.isfinite(image)]
        high = top if kind != "uncertainty" else float(finite.max()) if finite.size else 1.0
        figures.append(_figure(name, kind, caption, image, high if high > 0 else 1.0, info))
    return f"<div class='line'><h3>{escape(name)}</h3><div class='maps'>{''.join(figures)}</div></div>"


def _figure(name: str, kind: str, caption: str, image: FloatArray, high: float, info: RunInfo) -> str:
    zoom = max(1, round(_PICTURE / max(image.shape)))
    picture = _data(draw_png(image, Colouring(cmap=_CMAP, vmin=0.0, vmax=high, zoom=zoom)))
    step = info.step or (1.0, 1.0)
    width = image.shape[1] * zoom
    height = round(image.shape[0] * zoom * abs(step[0] / step[1])) if step[1] else image.shape[0] * zoom
    unit = "counts" if info.kind == "counts" else "area"
    scale = _scale_bar(info, width) if kind == "raw" else ""
    return (
        f"<figure><img class='map' width='{width}' height='{height}' alt='{escape(f'{name} {caption}')}' "
        f"src='{picture}'>"
        f"<figcaption>{scale}<span class='{kind}'>{escape(caption)}</span><br>"
        f"0 <img class='bar' alt='' src='{_bar()}'> {high:.3g} {unit}</figcaption></figure>"
    )


def _scale_bar(info: RunInfo, width: int) -> str:
    """Return a bar of a round length, at most a third of a map of `width` screen pixels."""
    if info.step is None or not info.step[1]:
        return ""
    whole = abs(info.step[1]) * info.shape[1]
    power = 10.0 ** np.floor(np.log10(whole / 3))
    length = next(n * power for n in (5, 2, 1) if n * power <= whole / 3)
    return f"<span class='scale' style='width:{width * length / whole:.0f}px'>{length:g} {escape(_unit(info))}</span>"


def _bar() -> str:
    return _data(draw_png(np.linspace(0, 1, 150, dtype=np.float32)[None], Colouring(cmap=_CMAP, vmin=0.0, vmax=1.0)))


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _detectors(status: RunStatus, info: RunInfo) -> str:
    found = status.evidence.detectors if status.evidence else ()
    if not found:
        return ""
    total = sum(one.total_counts for one in found) or 1.0
    rows = [
        [
            escape(one.detector),
            f"{100 * one.total_counts / total:.1f} %",
            f"{100 * one.drift:.1f} %",
            f"{len(one.gains)} of {len(info.lines)}",
        ]
        for one in found
    ]
    return (
        f"<h2>Detectors</h2>{_table(('detector', 'share of counts', 'smooth variation', 'lines it is used for'), rows)}"
    )


def _provenance(status: RunStatus, info: RunInfo) -> str:
    evidence = status.evidence
    about = {
        "quietbeam": __version__,
        "weights": f"{evidence.model}, sha256 {evidence.model_sha256}" if evidence else "none",
        "fine-tuning": f"{evidence.fine_tune_steps} steps, {evidence.fine_tune_s:.1f} s" if evidence else "none",
        "rows judged": f"{evidence.rows}{', final' if evidence.final else ''}" if evidence else "none",
        "documents from": info.source,
        "profile": info.profile,
    }
    cells = (f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in about.items() if v)
    start = escape(json.dumps(dict(info.metadata), indent=1, default=str))
    return (
        f"<h2>Provenance</h2><table class='facts'>{''.join(cells)}</table>"
        f"<details><summary>start document of the run</summary><pre>{start}</pre></details>"
    )


def write_report(status: RunStatus, maps: MapReader, folder: Path) -> Path:
    """Write the page to ``folder/UID.html``, in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{status.uid}.html"
    partial = path.with_suffix(".partial")
    partial.write_text(make_report(status, maps))
    partial.replace(path)
    return path


async def write_reports(hub: EventHub, status_of: Any, maps: MapReader, folder: Path) -> None:
    """Write the report of every run whose final maps are announced, and remove those of deleted runs, for ever."""
    async for frames in hub.follow(None, None):
        final, deleted = _ended_runs(frames)
        for uid in deleted:
            run_path(folder, uid).with_suffix(".html").unlink(missing_ok=True)
        for uid in final:
            try:
                status = await asyncio.to_thread(status_of, uid)
                path = await asyncio.to_thread(write_report, status, maps, folder)
                log.info("report_written", run=uid, path=str(path))
            except (QuietbeamError, OSError) as error:
                log.warning("report_not_written", run=uid, error=str(error))


def _ended_runs(frames: bytes) -> tuple[list[str], list[str]]:
    """Return the runs of which some SSE frames say that their final maps are there, and that they were deleted."""
    final, deleted = [], []
    for frame in frames.split(b"\n\n"):
        if b"event: map\n" in frame or b"event: run\n" in frame:
            data = json.loads(frame.split(b"data: ", 1)[1])
            if data.get("final"):
                final.append(str(data["run"]))
            elif data.get("state") == "deleted":
                deleted.append(str(data["run"]))
    return final, deleted
