"""Errors on held-out photons, band by band of the map: only bands whose rows or weights changed are computed anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.sums import Sums
from .fold_errors import FoldErrors, NetworkEstimate, first_folds, folds_of, score_fold, score_folds, score_network
from .risk import FOLDS, LINE_PIXELS, Fold, block_size

BAND_ROWS = 32
"""Rows of a band; a multiple of the blocks that the bootstrap draws."""
HALO_ROWS = 16
"""Rows above and below a band from which its estimates are made, too."""
GAIN_TOLERANCE = 0.1
"""A band is computed anew when a gain of a detector has changed by more than this share. Where all detectors count, the
sum does not depend on it at all."""


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
    scored: int = 0  # folds that were asked for; of fitted areas there may be fewer
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
        most: int | None = None,
    ) -> list[FoldErrors]:
        """Return the errors of raw, smoothers and the named networks on ``n_folds`` folds of every band.

        An empty list where nothing can be held out. Of a large map only some bands are scored, spread evenly; of a very
        wide one a few squares.

        Parameters
        ----------
        tuned
            Version of the fine-tuned weights: they are scored again when it has changed.
        most
            Most bands on which newer weights are scored in this call; the scores of older weights stand on the others.
            They are hardly better: weights are replaced only by weights with a smaller error on held-out photons.
        """
        if len(data.lines) * data.shape[1] * BAND_ROWS > LINE_PIXELS // 2:
            return score_folds(data, noise, estimate, networks, self._seed, n_folds)
        starts = _scored_bands(data)
        self._bands = {start: band for start, band in self._bands.items() if start in starts}
        self._data, self._noise, self._estimate = data, noise, estimate
        for start in starts:
            self._score_band(start, networks, n_folds, tuned)
        if "fine_tuned" in networks:
            outdated = sorted((start for start in starts if self._bands[start].tuned != tuned), key=self._version)
            for start in outdated[:most]:
                self._score_weights(start, tuned)
        return [fold for start in starts for fold in self._bands[start].folds[:n_folds]]

    def _version(self, start: int) -> int:
        return self._bands[start].tuned

    def _score_band(self, start: int, networks: Sequence[str], n_folds: int, tuned: int) -> None:
        """Score the folds of a band that are not scored yet."""
        data = self._data
        rows, wide = _rows_of_band(data, start)
        basis = _Basis.of(data, self._noise, rows)
        band = self._bands.get(start)
        if band is None or not band.basis.holds_for(basis):
            band = self._bands[start] = _Band(basis)
        if band.scored >= n_folds:
            return
        band.scored, inside = n_folds, slice(rows.start - wide[0], rows.stop - wide[0])
        for index, fold in enumerate(islice(self._folds(wide), n_folds)):
            if index < len(band.folds):
                continue
            own = Fold(_cropped(fold.seen, inside), _cropped(fold.held, inside))
            scored = FoldErrors(own, index, basis.block, data.kind)
            band.folds.append(score_fold(scored, fold.seen, self._noise, self._estimate, networks, inside))
            if index == 0 and "fine_tuned" in networks:
                band.tuned = tuned

    def _score_weights(self, start: int, tuned: int) -> None:
        """Score the fine-tuned weights as they are now, on the fold that never trains."""
        rows, wide = _rows_of_band(self._data, start)
        band, inside = self._bands[start], slice(rows.start - wide[0], rows.stop - wide[0])
        fold = next(iter(self._folds(wide)), None)
        if fold is not None:
            score_network(band.folds[0], fold.seen, self._estimate, "fine_tuned", inside)
        band.tuned = tuned

    def _folds(self, rows: tuple[int, int]) -> Iterator[Fold]:
        return folds_of(self._data, (rows, (0, self._data.shape[1])), FOLDS, self._seed)


def networks_scored(folds: Sequence[FoldErrors], networks: Sequence[str]) -> tuple[str, ...]:
    """Return those of the networks that are scored on every band."""
    return tuple(name for name in networks if all(name in scored.errors for scored in first_folds(folds)))


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

    names = set(first[0].rates).intersection(*(scored.rates for scored in first))
    counts = np.stack([scored.fold.seen.counts.sum((1, 2)) for scored in first])
    weights = np.where(counts.sum(0) > 0, counts, 1.0)
    scales = {
        name: np.average([scored.scales[name] for scored in first], axis=0, weights=weights).astype(np.float32)
        for name in names & first[0].scales.keys()
    }
    return replace(
        first[0],
        fold=Fold(sums([scored.fold.seen for scored in first]), sums([scored.fold.held for scored in first])),
        errors={},
        rates={name: stacked([scored.rates[name] for scored in first]) for name in names},
        variances={
            name: stacked([scored.variances[name] for scored in first]) for name in names & first[0].variances.keys()
        },
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
