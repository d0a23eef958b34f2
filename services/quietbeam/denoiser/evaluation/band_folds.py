"""Errors on held-out photons, band by band of the map: only bands whose rows or weights changed are computed anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.sums import Sums
from .fold_errors import FoldErrors, NetworkEstimate, first_folds, folds_of, score_fold, score_folds, score_network
from .risk import FOLDS, LINE_PIXELS, Fold, block_size

BAND_ROWS = 64
"""Rows of a band; a multiple of the blocks that the bootstrap draws."""
HALO_ROWS = 16
"""Rows above and below a band from which its estimates are made, too."""
GAIN_TOLERANCE = 0.02
"""A band is computed anew when the gain of a detector has changed by more than this share."""


@dataclass(frozen=True, slots=True)
class _Basis:
    """What the scores of a band rest on, beside the weights."""

    row_versions: tuple[int, ...]
    block: int
    noise: tuple[bytes, bytes]
    included: BoolArray
    gains: Float64Array

    @classmethod
    def of(cls, data: RunCounts, noise: NoiseModel, rows: slice) -> _Basis:
        return cls(
            row_versions=tuple(data.row_versions[rows].tolist()),
            block=block_size((data.rows_measured, data.shape[1])),
            noise=(noise.factor.tobytes(), noise.constant.tobytes()),
            included=data.gains.included.copy(),
            gains=data.gains.values.copy(),
        )

    def holds_for(self, other: _Basis) -> bool:
        """Return True when scores that rest on this hold for the present basis, too."""
        same = (self.row_versions, self.block, self.noise) == (other.row_versions, other.block, other.noise)
        return (
            same
            and np.array_equal(self.included, other.included)
            and bool(np.allclose(self.gains, other.gains, rtol=GAIN_TOLERANCE, atol=0))
        )


@dataclass(slots=True)
class _Band:
    basis: _Basis
    folds: list[FoldErrors] = field(default_factory=list)
    tuned: int = -1


class BandFolds:
    """The scored folds of a run that grows.

    The estimates of a band are made from its rows and a few around it, not from the whole map. In the published map
    lines are compared over all of it, so it is rather better than what is scored here.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._bands: dict[int, _Band] = {}

    def score(
        self,
        data: RunCounts,
        noise: NoiseModel,
        estimate: NetworkEstimate,
        networks: Sequence[str],
        *,
        n_folds: int = FOLDS,
        tuned: int = 0,
    ) -> list[FoldErrors]:
        """Return the errors of raw, smoothers and the named networks on ``n_folds`` folds of every band.

        An empty list where nothing can be held out. Of a large map only some bands are scored, spread evenly; of a very
        wide one a few squares.

        Parameters
        ----------
        tuned
            Version of the fine-tuned weights: they are scored again when it has changed.
        """
        if len(data.lines) * data.shape[1] * BAND_ROWS > LINE_PIXELS // 2:
            return score_folds(data, noise, estimate, networks, self._seed, n_folds)
        starts = _scored_bands(data)
        self._bands = {start: band for start, band in self._bands.items() if start in starts}
        scored: list[FoldErrors] = []
        for start in starts:
            scored += self._score_band(start, data, noise, estimate, networks, n_folds, tuned)
        return scored

    def _score_band(
        self,
        start: int,
        data: RunCounts,
        noise: NoiseModel,
        estimate: NetworkEstimate,
        networks: Sequence[str],
        n_folds: int,
        tuned: int,
    ) -> list[FoldErrors]:
        rows, wide = _rows_of_band(data, start)
        inside = slice(rows.start - wide[0], rows.stop - wide[0])
        basis = _Basis.of(data, noise, rows)
        band = self._bands.get(start)
        if band is None or not band.basis.holds_for(basis):
            band = self._bands[start] = _Band(basis)
        folds = folds_of(data, (wide, (0, data.shape[1])), FOLDS, self._seed)
        for index, fold in enumerate(islice(folds, n_folds)):
            if index >= len(band.folds):
                own = Fold(_cropped(fold.seen, inside), _cropped(fold.held, inside))
                scored = FoldErrors(own, index, basis.block, data.kind)
                band.folds.append(score_fold(scored, fold.seen, noise, estimate, networks, inside))
                band.tuned = tuned
            elif index == 0 and "fine_tuned" in networks and band.tuned != tuned:
                score_network(band.folds[0], fold.seen, estimate, "fine_tuned", inside)
                band.tuned = tuned
        return band.folds[:n_folds]


def joined(folds: Sequence[FoldErrors]) -> FoldErrors:
    """Return the folds that never train, one below the other, for checks that look at a whole map.

    Errors are not joined: :func:`~quietbeam.denoiser.evaluation.fold_errors.total_error` does that.
    """
    first = first_folds(folds)
    if len(first) == 1 or len({scored.fold.seen.counts.shape[2] for scored in first}) > 1:
        return first[0]

    def stacked(maps: Sequence[FloatArray]) -> FloatArray:
        return np.concatenate(maps, 1)

    def sums(parts: Sequence[Sums]) -> Sums:
        return Sums(stacked([part.counts for part in parts]), stacked([part.exposure for part in parts]))

    counts = np.stack([scored.fold.seen.counts.sum((1, 2)) for scored in first])
    share = counts / np.maximum(counts.sum(0), 1e-9)
    scales = {
        name: np.asarray((share * np.stack([scored.scales[name] for scored in first])).sum(0), np.float32)
        for name in first[0].scales
    }
    for name, scale in scales.items():
        scales[name] = np.where(counts.sum(0) > 0, scale, np.float32(1))
    return replace(
        first[0],
        fold=Fold(sums([scored.fold.seen for scored in first]), sums([scored.fold.held for scored in first])),
        errors={},
        rates={name: stacked([scored.rates[name] for scored in first]) for name in first[0].rates},
        variances={name: stacked([scored.variances[name] for scored in first]) for name in first[0].variances},
        scales=scales,
    )


def _scored_bands(data: RunCounts) -> list[int]:
    """Return the first rows of the bands that are scored; those of a growing map stay among them, or every other."""
    measured = np.flatnonzero(data.measured.any(1))
    starts = np.unique(measured // BAND_ROWS * BAND_ROWS).tolist()
    most = max(1, LINE_PIXELS // (len(data.lines) * data.shape[1] * BAND_ROWS))
    stride = 1
    while -(-len(starts) // stride) > most:
        stride *= 2
    return [int(start) for start in starts[::stride]]


def _rows_of_band(data: RunCounts, start: int) -> tuple[slice, tuple[int, int]]:
    """Return the measured rows of a band, from the first to the last, and those with the rows around it."""
    measured = np.flatnonzero(data.measured.any(1))
    own = measured[(measured >= start) & (measured < start + BAND_ROWS)]
    rows = slice(int(own[0]), int(own[-1]) + 1)
    return rows, (max(rows.start - HALO_ROWS, int(measured[0])), min(rows.stop + HALO_ROWS, int(measured[-1]) + 1))


def _cropped(sums: Sums, rows: slice) -> Sums:
    return Sums(sums.counts[:, rows], sums.exposure[:, rows])
