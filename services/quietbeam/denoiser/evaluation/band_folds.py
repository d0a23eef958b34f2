"""Errors on held-out photons, band by band of the map: only bands whose rows or weights changed are computed anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.holdout import FOLDS
from ..data.sums import Sums
from .fold_errors import FoldErrors, NetworkEstimate, first_folds, folds_of, score_fold, score_folds, score_network
from .risk import LINE_PIXELS, Fold, block_size

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

    rows: tuple[int, int]
    row_versions: tuple[int, ...]
    block: int
    noise: tuple[bytes, bytes]
    included: BoolArray
    gains: Float64Array

    @classmethod
    def of(cls, data: RunCounts, noise: NoiseModel, rows: slice) -> _Basis:
        return cls(
            rows=(rows.start, rows.stop),
            row_versions=tuple(data.row_versions[rows].tolist()),
            block=block_size((data.rows_measured, data.shape[1])),
            noise=(noise.factor.tobytes(), noise.constant.tobytes()),
            included=data.gains.included.copy(),
            gains=data.gains.values.copy(),
        )

    def holds_for(self, other: _Basis) -> bool:
        """Return True when scores that rest on this hold for the present basis, too."""
        same = (self.rows, self.row_versions, self.block, self.noise) == (
            other.rows,
            other.row_versions,
            other.block,
            other.noise,
        )
        return (
            same
            and np.array_equal(self.included, other.included)
            and bool(np.allclose(self.gains, other.gains, rtol=GAIN_TOLERANCE, atol=0))
        )


@dataclass(slots=True)
class _Band:
    basis: _Basis
    wide: tuple[int, int]  # rows from which its estimates are made
    folds: list[FoldErrors] = field(default_factory=list)
    scored: int = 0  # folds that were asked for; of fitted areas there may be fewer
    tuned: int = -1

    @property
    def inside(self) -> slice:
        """Rows of the band among the wide ones."""
        first, stop = self.basis.rows
        return slice(first - self.wide[0], stop - self.wide[0])


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
        # rows may arrive, and be scored, while an estimate is made: every band keeps the rows that it began with
        self._data, self._noise, self._estimate = data, noise, estimate
        bands = {start: self._score_band(start, networks, n_folds, tuned) for start in _scored_bands(data)}
        if "fine_tuned" in networks:
            outdated = sorted((band for band in bands.values() if band.tuned != tuned), key=lambda band: band.tuned)
            for band in outdated[:most]:
                self._score_weights(band, tuned)
        self._bands = bands
        return [fold for band in bands.values() for fold in band.folds[:n_folds]]

    def _score_band(self, start: int, networks: Sequence[str], n_folds: int, tuned: int) -> _Band:
        """Score the folds of a band that are not scored yet."""
        rows, wide = _rows_of_band(self._data, start)
        basis = _Basis.of(self._data, self._noise, rows)
        band = self._bands.get(start)
        if band is None or not band.basis.holds_for(basis):
            band = _Band(basis, wide)
        if band.scored >= n_folds:
            return band
        for index, fold in enumerate(islice(self._folds(band.wide), n_folds)):
            if index < len(band.folds):
                continue
            own = Fold(_cropped(fold.seen, band.inside), _cropped(fold.held, band.inside))
            errors = FoldErrors(own, index, basis.block, self._data.kind)
            band.folds.append(score_fold(errors, fold.seen, self._noise, self._estimate, networks, band.inside))
            if index == 0 and "fine_tuned" in networks:
                band.tuned = tuned
        band.scored = n_folds  # not before: an estimate may be interrupted
        return band

    def _score_weights(self, band: _Band, tuned: int) -> None:
        """Score the fine-tuned weights as they are now, on the fold that never trains."""
        fold = next(iter(self._folds(band.wide)), None)
        if fold is not None:
            score_network(band.folds[0], fold.seen, self._estimate, "fine_tuned", band.inside)
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
