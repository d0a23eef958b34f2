"""What a run that stopped has become: complete, or what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quietbeam.core.model.types import BoolArray, RunState

from ..documents.model import Stop
from ..profile.layout import Layout
from ..rows.assembler import RowAssembler
from ..rows.choose import Assembler
from ..rows.grid import GridAssembler
from ..rows.positioned import PositionedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """State, a sentence for people, and warnings."""

    state: RunState
    reason: str
    warnings: tuple[str, ...] = ()


def stopped_state(stop: Stop, *, missing: bool) -> RunState:
    """Return the state of a run after its stop document."""
    if stop.exit_status == "abort":
        return RunState.ABORTED
    if stop.exit_status == "fail":
        return RunState.FAILED
    return RunState.INCOMPLETE if missing else RunState.COMPLETE


def end_of(stop: Stop, layout: Layout, rows: Assembler, frames_per_event: int) -> End:
    """Return what a run has become; pixels count, of sums of samples the samples."""
    events = [n for stream, n in stop.num_events.items() if layout.reads(stream)]
    announced = min(events) * frames_per_event if events else None
    if isinstance(rows, GridAssembler):
        missing, sentence, warnings = _of_samples(rows, layout, announced)
    else:
        missing, sentence, warnings = _of_pixels(rows, layout, announced)
    if isinstance(rows, PositionedRows):
        warnings += rows.notes
        if rows.misfit:
            return End(state=RunState.UNUSABLE, reason=rows.misfit, warnings=tuple(warnings))
    reason = "; ".join(part for part in (stop.reason, sentence) if part)
    return End(state=stopped_state(stop, missing=missing > 0), reason=reason, warnings=tuple(warnings))


def _rows_of_map(layout: Layout, measured: BoolArray) -> int:
    """Return how many rows the map has come to have."""
    rows, least = layout.geometry.shape[0], layout.geometry.least_rows
    return rows if least is None else max(least, 1 + int(np.flatnonzero(measured.any(axis=1)).max(initial=-1)))


def _of_samples(rows: GridAssembler, layout: Layout, announced: int | None) -> tuple[int, str, list[str]]:
    came, outside = rows.samples_measured, rows.outside
    map_rows = _rows_of_map(layout, rows.measured)
    empty = int(np.count_nonzero(~rows.measured[:map_rows]))
    warnings = []
    if outside:
        warnings.append(f"{outside} of {came} samples lie outside the grid; they are kept, but not in the map")
    if empty:
        warnings.append(f"{empty} of {map_rows * layout.geometry.shape[1]} cells hold no sample and are not measured")
    wanted = layout.geometry.points or announced or came
    lacking = max(0, wanted - came)
    return lacking, f"{lacking} of {wanted} samples did not come or could not be used" if lacking else "", warnings


def _of_pixels(
    rows: RowAssembler | PositionedRows, layout: Layout, announced: int | None
) -> tuple[int, str, list[str]]:
    pixels = layout.geometry.shape[1] * _rows_of_map(layout, rows.measured)
    missing, warnings = pixels - rows.pixels_measured, []
    expected = min(announced, layout.geometry.pixels) if announced is not None else 0
    if expected > rows.pixels_measured:
        lacking = expected - rows.pixels_measured
        warnings.append(f"{lacking} of the {expected} pixels that the run announces did not come or could not be used")
    if not missing:
        return 0, "", warnings
    lacking_rows = ~rows.measured[: pixels // layout.geometry.shape[1]].all(axis=1)
    n, first = int(np.count_nonzero(lacking_rows)), int(np.argmax(lacking_rows))
    where = f"row {first}" if n == 1 else f"{n} rows, the first is {first}"
    return missing, f"{missing} of {pixels} pixels were not measured ({where})", warnings
