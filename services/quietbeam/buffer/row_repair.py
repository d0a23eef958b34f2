"""Mends the rows of a run, and records what was done.

A row whose counts, I0, live time or commit mark cannot be read is not measured afterwards, for nobody can say which of
its pixels were; only where every pixel of a row holds a count is a lost commit mark known.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from quietbeam.core.errors import DamagedRunError

from .damage import is_whole, reading
from .examination import unmarked
from .layout import row_arrays
from .run_buffer import RunBuffer


@dataclass(slots=True, kw_only=True)
class Repair:
    """What was done to a run.

    Attributes
    ----------
    sentences
        What was mended and what is lost, for people; empty when nothing was wrong.
    maps_lost
        The maps must be made anew.
    lost_rows
        Rows that are not measured any more.
    is_incomplete
        Rows are gone without a trace but their maps.
    """

    sentences: list[str] = field(default_factory=list)
    maps_lost: bool = False
    lost_rows: list[int] = field(default_factory=list)
    is_incomplete: bool = False


def mend_marks(buffer: RunBuffer, repair: Repair) -> None:
    """Write commit marks again that a complete run lost, where every pixel of the row holds a count."""
    width, lost = buffer.segment, []
    for row, part in (map(int, place.parts) for place in unmarked(buffer.path)):
        cols = slice(part * width, min((part + 1) * width, buffer.info.shape[1]))
        files = [buffer.chunk(name, row, cols.start) for name in row_arrays(buffer.info)]
        if all(map(is_whole, files)) and _every_pixel_holds_counts(buffer, row, cols):
            buffer.mark(row, cols, measured=True)
            repair.sentences.append(f"the lost commit mark of row {row} was written again from its counts")
        else:
            lost.append(row)
            for file in files:
                _remove(file)
                buffer.writes.add(file)
    repair.lost_rows += lost


def mend_rows(buffer: RunBuffer, repair: Repair, *, unpack: bool) -> None:
    """Unmark rows of which a file cannot be read; write a torn commit mark again where every pixel holds a count."""
    width = buffer.segment
    for row in buffer.rows_written():
        for part in buffer.segments_written(row):
            cols = slice(part * width, min((part + 1) * width, buffer.info.shape[1]))
            files = {n: buffer.chunk(n, row, cols.start) for n in (*row_arrays(buffer.info), "measured")}
            bad = [n for n, file in files.items() if not is_whole(file)]
            if unpack and not bad:
                bad = [n for n in files if not reads(buffer, partial(buffer.read_part, n, row, cols))]
            if bad == ["measured"] and _every_pixel_holds_counts(buffer, row, cols):
                files["measured"].unlink()
                buffer.mark(row, cols, measured=True)
                repair.sentences.append(f"the lost commit mark of row {row} was written again from its counts")
            elif bad:
                for file in [files["measured"], *files.values()]:  # the mark first: what has none counts for nothing
                    _remove(file)
                    buffer.writes.add(file)
                repair.lost_rows.append(row)
    if repair.lost_rows:
        lost = sorted(set(repair.lost_rows))
        repair.sentences.append(f"{len(lost)} damaged row(s) are not measured any more, the first is row {lost[0]}")


def reads(buffer: RunBuffer, what: Callable[[], object]) -> bool:
    """Return whether something of a run can be read."""
    try:
        with reading(buffer.path, "a row"):
            what()
    except DamagedRunError:
        return False
    return True


def _remove(file: Path) -> None:
    if file.is_dir():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def _every_pixel_holds_counts(buffer: RunBuffer, row: int, cols: slice) -> bool:
    try:
        counts = buffer.read_part("counts", row, cols)
    except DamagedRunError:
        return False
    return bool((np.nansum(counts, axis=(0, 1)) > 0).all())
