"""What ingest makes of a recorded run, without any server: for `quietbeam profile check`."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.model.types import PixelOrder, RunState

from ..documents.model import Descriptor
from ..documents.relocate import Recorded
from ..profile.geometry import Geometry
from ..profile.schema import BeamlineProfile
from ..run.assembly import RunAssembly
from ..run.router import RunRouter
from .assemble import ingest_recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was understood (``ok``), is missing (``missing``) or looks wrong (``wrong``)."""

    verdict: str
    what: str
    found: str


@dataclass(slots=True, kw_only=True)
class Checked:
    """What a recorded run is."""

    findings: list[Finding] = field(default_factory=list)
    profile: str = ""

    @property
    def usable(self) -> bool:
        """True when nothing looks wrong."""
        return all(finding.verdict != "wrong" for finding in self.findings)

    def add(self, verdict: str, what: str, found: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(verdict=verdict, what=what, found=found))


def check(recorded: Sequence[Recorded], profiles: Sequence[BeamlineProfile], folders: Sequence[Path] = ()) -> Checked:
    """Read the first run of a recording by the profiles and say what it is.

    Parameters
    ----------
    folders
        Where its detector files may be.
    """
    result = Checked()
    starts = [doc for name, doc in recorded if name == "start"]
    counts = Counter(name for name, _ in recorded)
    result.add("ok", "documents", ", ".join(f"{n} {name}" for name, n in counts.items()))
    if not starts:
        result.add("wrong", "start document", "there is none: the recording began in the middle of a run")
        return result
    if len(starts) > 1:
        result.add("ok", "runs", f"{len(starts)} in the recording, the first is looked at")
    with tempfile.TemporaryDirectory(prefix="quietbeam-check-") as scratch:
        found, refused = ingest_recorded(recorded, str(starts[0].get("uid", "")), profiles, folders, Path(scratch))
        run = found.router
        for reason, n in refused.most_common(5):
            if reason != run.condition.reason:
                result.add("wrong", "not used", reason if n == 1 else f"{reason} ({n} times)")
        _about_run(run, starts[0], result)
        if run.assembly is not None:
            result.profile = run.assembly.layout.profile_name
            _about_layout(run.assembly, result)
            _about_counts(run.assembly, result)
        for sentence in run.condition.warnings:
            wrong = "could not be used" in sentence or "peaks found" in sentence
            result.add("wrong" if wrong else "missing", "warning", sentence)
    return result


def _about_run(run: RunRouter, start: Mapping[str, Any], result: Checked) -> None:
    names = ("scan_id", "plan_name", "beamline_id", "sample")
    result.add("ok", "run", ", ".join([run.uid, *(f"{n} {str(start[n])[:40]}" for n in names if n in start)]))
    for descriptor in run.descriptors:
        result.add("ok", f"stream {descriptor.stream}", _keys(descriptor))
    if run.stop is None:
        result.add("missing", "stop document", "the run did not end in this recording")
    state, reason = run.condition.state, run.condition.reason
    verdict = {RunState.UNUSABLE: "wrong", RunState.COMPLETE: "ok"}.get(state, "missing")
    result.add(verdict, "state", f"{state.value}{': ' if reason else ''}{reason}")


def _keys(descriptor: Descriptor) -> str:
    shown = [
        f"{key}{list(entry.get('shape') or ()) or ''}{' (file)' if entry.get('external') else ''}"
        for key, entry in descriptor.data_keys.items()
    ]
    return ", ".join(shown[:8]) + (f" ... {len(shown)} keys" if len(shown) > 8 else "")


def _about_layout(run: RunAssembly, result: Checked) -> None:
    layout = run.layout
    result.add("ok", "profile", f"{layout.profile_name}: {layout.profile_description}")
    result.add("ok", "detectors", f"{len(layout.detectors)}: {', '.join(layout.detectors)}")
    result.add("ok", "lines", f"{len(layout.lines)}: {', '.join(layout.lines)}")
    source = layout.array_key or f"{layout.keys[0]} ... {layout.keys[-1]}"
    result.add("ok", "counts from", f"{source}{' (spectra)' if layout.spectra is not None else ''}")
    where = {role: key for key, (role, _) in layout.datasets.items()}
    for what, key in (
        ("I0", layout.i0_key or where.get("i0", "")),
        ("live time", next(iter(layout.live_time_keys), where.get("live_time_s", ""))),
        ("positions", ", ".join(layout.position_keys or filter(None, (where.get("slow"), where.get("fast"))))),
    ):
        if key:
            result.add("ok", what, f"from {key}{' ...' if what == 'live time' else ''}")
        elif what != "positions":
            result.add("missing", what, f"no {what}: exposure is taken as equal everywhere")
    _about_geometry(layout.geometry, result)


def _about_geometry(geometry: Geometry, result: Checked) -> None:
    rows, cols = geometry.shape
    order = "samples put on a grid by position" if geometry.gridded else "snake" if geometry.snake else "raster"
    parts = [f"{'at most ' if geometry.least_rows is not None else ''}{rows} rows x {cols} columns", order]
    parts += ["repeats add up"] if geometry.adds else []
    parts += [f"series of {geometry.maps} maps"] if geometry.maps > 1 else []
    result.add("ok", "geometry", ", ".join(parts))
    if geometry.step is None:
        result.add("missing", "pixel size", "geometry.extents gives none")
    else:
        slow, fast = geometry.step
        result.add("ok", "pixel size", f"{slow:.4g} x {fast:.4g} {geometry.units} (slow x fast)")
    if geometry.dwell_s is None:
        result.add("missing", "dwell", "geometry.dwell_s gives none: dwell gains cannot be told in seconds")
    else:
        result.add("ok", "dwell", f"{geometry.dwell_s:g} s per pixel")


def _about_counts(run: RunAssembly, result: Checked) -> None:
    measured = run.buffer.measured()
    if not measured.any():
        result.add("wrong", "dose", "no pixel was measured")
        return
    counts = run.buffer.read_counts()[:, :, measured].astype(np.float64)
    total = counts.sum(axis=0)
    lines = zip(run.layout.lines, total, strict=True)
    doses = ", ".join(f"{line} {np.mean(one):.3g}" for line, one in lines)
    result.add("ok", "counts per pixel", f"{doses} (sum of the detectors, mean)")
    empty = [line for line, one in zip(run.layout.lines, total, strict=True) if not one.any()]
    if empty:
        result.add(
            "wrong", "empty lines", f"{', '.join(empty)}: no counts; correct keys, line_names or the calibration"
        )
    share = counts.sum(axis=(1, 2)) / max(counts.sum(), 1.0)
    names = run.layout.detectors
    result.add("ok", "detector shares", ", ".join(f"{n} {s:.1%}" for n, s in zip(names, share, strict=True)))
    dead = [n for n, s in zip(names, share, strict=True) if s < 0.1 / len(names)]
    if dead:
        result.add("wrong", "dead detectors", f"{', '.join(dead)}: below a tenth of an even share")
    if run.info.order is PixelOrder.FROM_POSITIONS:
        result.add(
            "wrong",
            "order",
            "the readings of the motors contradict it: turn geometry.order, or correct geometry.snake",
        )
    elif not run.layout.geometry.sums and measured.all():
        _order(run.buffer.read_counts().sum(axis=0), run.layout.geometry, result)


def _order(total: npt.NDArray[Any], geometry: Geometry, result: Checked) -> None:
    """Say when another order of the same frames gives rows that look far more alike."""
    rows, cols = geometry.shape
    if min(rows, cols) < 4:
        return
    in_time = total.astype(np.float64)
    if geometry.snake:
        in_time[:, 1::2] = in_time[:, 1::2, ::-1].copy()
    series = np.sqrt(in_time.reshape(len(total), -1) + 0.375)
    likeness = {
        (shape, snake): _likeness(series, shape, snake)
        for shape in {(rows, cols), (cols, rows)}
        for snake in (False, True)
    }
    best = max(likeness, key=lambda key: likeness[key])
    if likeness[best] < likeness[(rows, cols), geometry.snake] + 0.2:
        return
    shape, snake = best
    advice = ["turn geometry.order"] if shape != (rows, cols) else []
    advice += [f"set geometry.snake {'true' if snake else 'false'}"] if snake != geometry.snake else []
    found = f"neighbouring rows would look more alike as {shape[0]} x {shape[1]} {'snake' if snake else 'raster'}"
    result.add("wrong", "order of frames", f"{found} (correlation {likeness[best]:.2f}): {' and '.join(advice)}")


def _likeness(series: npt.NDArray[np.float64], shape: tuple[int, int], snake: bool) -> float:
    """Return the mean correlation of neighbouring rows when the frames are laid out so."""
    field = series.reshape(len(series), *shape).copy()
    if snake:
        field[:, 1::2] = field[:, 1::2, ::-1].copy()
    field -= field.mean(axis=(1, 2), keepdims=True)
    product = (field[:, 1:] * field[:, :-1]).sum()
    return float(product / (np.sqrt((field[:, 1:] ** 2).sum() * (field[:, :-1] ** 2).sum()) or 1.0))
