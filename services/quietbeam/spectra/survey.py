"""One pass over a map of spectra, piece by piece: sum spectra, totals, what was measured, and counts in windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.not_measured import CORRECTED, padding
from quietbeam.core.model.types import Float64Array

from .maps import MapInfo, SpectralMap

Windows = Sequence[Sequence[tuple[int, int]]]
"""For every detector the (first channel, one after the last) of every line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one pass over the spectra gives.

    Attributes
    ----------
    sums
        (detector, channel) counts of the whole map.
    measured
        (row, col) bool: a spectrum is there, and all of its values are counts.
    counts
        (detector, line, row, col) uint32.
    info
        Of the map, with what was found added to its remarks.
    """

    sums: Float64Array
    measured: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.uint32]
    info: MapInfo


def survey_spectra(measured: SpectralMap, windows: Windows = ()) -> Survey:
    """Read all spectra once.

    Raises
    ------
    FileFormatError
        The spectra are not counts, or no pixel can be used; the message says why.
    """
    info = measured.info
    n_det, (rows, cols) = len(info.detectors), info.shape
    pixels = rows * cols
    sums = np.zeros((n_det, measured.channels), np.int64)
    totals = np.zeros(pixels, np.int64)
    read, invalid = np.zeros(pixels, bool), np.zeros(pixels, bool)
    counts = np.zeros((n_det, len(windows[0]) if windows else 0, pixels), np.uint32)
    problems: Counter[str] = Counter()
    for block in measured.blocks():
        sums += block.counts.sum(0, dtype=np.int64)
        np.add.at(totals, block.pixels, block.counts.sum((1, 2), dtype=np.int64))
        read[block.pixels] = True
        invalid[block.pixels[~block.valid]] = True
        problems.update(block.problems)
        for d, ranges in enumerate(windows):
            for n, (low, stop) in enumerate(ranges):
                np.add.at(counts[d, n], block.pixels, block.counts[:, d, low:stop].sum(-1, dtype=np.uint32))
    valid = (read & ~invalid).reshape(rows, cols)
    if 2 * problems[CORRECTED] > np.count_nonzero(totals) + problems[CORRECTED]:
        raise FileFormatError(
            f"{info.source}: spectra are no counts: {problems[CORRECTED]} of {len(totals)} pixels hold mostly numbers "
            "that are not whole. Give the spectra as they were recorded, before any correction"
        )
    remarks = list(info.remarks)
    if problems:
        why = "; ".join(f"{n} with {reason}" for reason, n in problems.most_common())
        remarks.append(f"{int(invalid.sum())} of {pixels} pixels are not measured: {why}")
    if measured.whole_scan:
        before = valid if info.measured is None else valid & info.measured
        empty = padding(np.where(before, totals.reshape(rows, cols), 0)) & before
        if empty.any():
            valid &= ~empty
            remarks.append(
                f"{int(empty.sum())} pixels at the end of the scan hold no count at all and are not measured: "
                "the scan seems to have been stopped"
            )
    valid = valid if info.measured is None else valid & info.measured
    if not valid.any():
        why = "; ".join(problems) or "every spectrum is empty, or no position or I0 of any pixel can be used"
        raise FileFormatError(f"{info.source}: no pixel was measured: {why}")
    return Survey(
        sums=sums.astype(float),
        measured=valid,
        counts=counts.reshape(n_det, -1, rows, cols),
        info=replace(info, measured=valid, remarks=tuple(remarks)),
    )
