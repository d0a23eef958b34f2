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
from quietbeam.core.evidence import LineEvidence, interval
from quietbeam.core.runs import RunStatus
from quietbeam.core.types import FloatArray, RunInfo
from quietbeam.core.version import __version__

from .colormaps import Colouring, draw_png
from .events import EventHub
from .maps import Kind, MapReader

log = structlog.get_logger()

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'self'"
MAX_LINES = 60
_PICTURE = 320
"""Wanted width or height of a map in screen pixels."""
_CMAP = "viridis"
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1c232b; max-width: 1120px; margin: 24px auto; padding: 0 16px }
h1 { font-size: 22px; margin: 0 0 4px } h2 { font-size: 17px; margin: 28px 0 8px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: 3px 10px 3px 0; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #c8d0d8 } td { border-bottom: 1px solid #eceff2 }
.number { text-align: right; font-variant-numeric: tabular-nums } .soft { color: #5a6672 }
.maps { display: flex; gap: 18px; flex-wrap: wrap } figure { margin: 0 }
figcaption { font-size: 12px; max-width: 330px }
img.map { image-rendering: pixelated; display: block; border: 1px solid #c8d0d8 }
img.bar { width: 150px; height: 9px; vertical-align: -1px; border: 1px solid #c8d0d8 }
.line { margin: 18px 0; break-inside: avoid } .warn { color: #8a4b00; font-weight: 600 }
pre { background: #f4f6f8; padding: 10px; overflow-x: auto; font-size: 12px; white-space: pre-wrap }
"""


def make_report(status: RunStatus, maps: MapReader) -> str:
    """Return the page of a run.

    Raises
    ------
    NotMeasuredError
        The run has no maps (yet).
    """
    info = status.info
    kinds: tuple[Kind, ...] = ("raw", "denoised", "uncertainty")
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
        _facts(status, info),
        "<h2>Evidence</h2>",
        _evidence_table(known, info),
        _notes(status),
        "<h2>Maps</h2>",
        f"<p class='soft'>Raw and denoised have the same colours. Grey is not measured. {escape(_scale(info))}</p>",
    ]
    for j, line in enumerate(info.lines[:MAX_LINES]):
        parts.append(_line(line, {kind: stacks[kind][j] for kind in kinds}, known.get(line), info))
    if len(info.lines) > MAX_LINES:
        parts.append(f"<p>{len(info.lines) - MAX_LINES} more lines are not shown.</p>")
    parts += [_detectors(status), _provenance(status, info), "</body></html>"]
    return "\n".join(parts)


def _sentence(status: RunStatus, info: RunInfo) -> str:
    rows, cols = info.shape
    started = datetime.fromtimestamp(info.time_start, UTC).strftime("%Y-%m-%d %H:%M UTC")
    measured = f"{status.pixels_measured} of {rows * cols} pixels measured"
    return f"{info.plan or 'unknown plan'}, started {started}; {status.state}: {measured}. {status.reason}".strip()


def _facts(status: RunStatus, info: RunInfo) -> str:
    step = "unknown" if info.step is None else " x ".join(f"{s:g}" for s in info.step) + f" {info.units}"
    rows = {
        "run uid": status.uid,
        "map": f"{info.shape[0]} x {info.shape[1]} (row x col), step {step}",
        "dwell": "unknown" if info.dwell_s is None else f"{info.dwell_s:g} s a pixel",
        "detectors": ", ".join(info.detectors),
        "sample": str(info.metadata.get("sample", "")),
        "maps are": f"{status.denoise_state} (version {status.maps_version})",
    }
    cells = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows.items() if v)
    return f"<table>{''.join(cells)}</table>"


def _evidence_table(known: dict[str, LineEvidence], info: RunInfo) -> str:
    if not known:
        return "<p class='warn'>No evidence: the maps are the raw detector sum.</p>"
    head = "".join(
        f"<th>{name}</th>"
        for name in (
            "line",
            "published",
            "dwell gain",
            "95 % interval",
            "counts / pixel",
            "total ratio",
            "FRC (raw) / px",
            "doubts",
        )
    )
    rows = []
    for name in info.lines:
        line = known.get(name)
        if line is None:
            continue
        doubts = ["residual shows structure"] if line.residual_flag else []
        doubts += [] if line.proven else ["unproven"]
        doubts += [f"{d} left out: {why}" for d, why in line.excluded_detectors.items()]
        frc = "" if line.frc_pixels is None else f"{line.frc_pixels:.1f} ({_number(line.frc_raw_pixels, '.1f')})"
        cells = [
            escape(name),
            line.estimator,
            _number(line.dwell_gain, ".1f"),
            interval(line),
            f"{line.mean_counts:.3g}",
            _number(line.total_ratio, ".4f"),
            frc,
        ]
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr>{body}<td class='warn'>{escape('; '.join(doubts))}</td></tr>")
    return (
        f"<table><tr>{head}</tr>{''.join(rows)}</table><p class='soft'>Dwell gain: how many times longer the raw map "
        "would have to be acquired to have the same error, measured on photons that the network did not see.</p>"
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
    return f"Each map is {width:g} {info.units} wide and {height:g} {info.units} high."


def _line(name: str, values: dict[Kind, FloatArray], line: LineEvidence | None, info: RunInfo) -> str:
    shared = np.concatenate([values["raw"].ravel(), values["denoised"].ravel()])
    shared = shared[np.isfinite(shared)]
    top = float(np.quantile(shared, 0.998)) if shared.size else 1.0
    how = "raw detector sum" if line is None or line.estimator == "raw" else f"denoised ({line.estimator})"
    figures = []
    for kind, caption in (("raw", "raw"), ("denoised", how), ("uncertainty", "one standard error")):
        image = values[kind]  # type: ignore[index]
        finite = image[np.isfinite(image)]
        high = top if kind != "uncertainty" else float(finite.max()) if finite.size else 1.0
        figures.append(_figure(f"{name} {caption}", image, high if high > 0 else 1.0, info))
    return f"<div class='line'><h3>{escape(name)}</h3><div class='maps'>{''.join(figures)}</div></div>"


def _figure(caption: str, image: FloatArray, high: float, info: RunInfo) -> str:
    zoom = max(1, round(_PICTURE / max(image.shape)))
    picture = _data(draw_png(image, Colouring(cmap=_CMAP, vmin=0.0, vmax=high, zoom=zoom)))
    step = info.step or (1.0, 1.0)
    width = image.shape[1] * zoom
    height = round(image.shape[0] * zoom * step[0] / step[1]) if step[1] > 0 else image.shape[0] * zoom
    return (
        f"<figure><img class='map' width='{width}' height='{height}' alt='{escape(caption)}' src='{picture}'>"
        f"<figcaption>{escape(caption)}<br>"
        f"0 <img class='bar' alt='' src='{_bar()}'> {high:.3g} counts</figcaption></figure>"
    )


def _bar() -> str:
    return _data(draw_png(np.linspace(0, 1, 150, dtype=np.float32)[None], Colouring(cmap=_CMAP, vmin=0.0, vmax=1.0)))


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _detectors(status: RunStatus) -> str:
    found = status.evidence.detectors if status.evidence else ()
    if not found:
        return ""
    total = sum(one.total_counts for one in found) or 1.0
    rows = "".join(
        f"<tr><td>{escape(one.detector)}</td><td class='number'>{100 * one.total_counts / total:.1f} %</td>"
        f"<td class='number'>{100 * one.drift:.1f} %</td><td class='number'>{len(one.gains)}</td></tr>"
        for one in found
    )
    head = "<tr><th>detector</th><th>share of counts</th><th>smooth variation</th><th>lines it is used for</th></tr>"
    return f"<h2>Detectors</h2><table>{head}{rows}</table>"


def _provenance(status: RunStatus, info: RunInfo) -> str:
    evidence = status.evidence
    about: dict[str, Any] = {
        "quietbeam": __version__,
        "run_uid": status.uid,
        "maps_version": status.maps_version,
        "model": evidence.model if evidence else None,
        "model_sha256": evidence.model_sha256 if evidence else None,
        "fine_tune_steps": evidence.fine_tune_steps if evidence else 0,
        "fine_tune_s": evidence.fine_tune_s if evidence else 0,
        "rows": evidence.rows if evidence else 0,
        "final": bool(evidence and evidence.final),
        "tiled_path": status.tiled_path,
        "source": info.source,
        "profile": info.profile,
        "metadata": dict(info.metadata),
    }
    return f"<h2>Provenance</h2><pre>{escape(json.dumps(about, indent=1, default=str))}</pre>"


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
