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
        self._weights_next = True

    def score(
        self,
        data: RunCounts,
        noise: NoiseModel,
        estimate: NetworkEstimate,
        networks: Sequence[str],
        *,
        n_folds: int = FOLDS,
        tuned: int = 0,
        complete: bool = True,
    ) -> list[FoldErrors]:
        """Return the errors of raw, smoothers and the named networks, band by band.

        An empty list where nothing can be held out. Of a large map only some bands are scored, spread evenly; of a very
        wide one a few squares.

        Parameters
        ----------
        n_folds
            Most folds of a band.
        tuned
            Version of the fine-tuned weights: they are scored again when it has changed.
        complete
            False: only the first fold of bands whose rows are new is scored; :meth:`score_more` adds the others. The
            scores of older weights stand until then. They are hardly better: weights are replaced only by weights with
            a smaller error on held-out photons.
        """
        if _is_wide(data):
            return score_folds(data, noise, estimate, networks, self._seed, n_folds)
        # rows may arrive, and be scored, while an estimate is made: every band keeps the rows that it began with
        self._data, self._noise, self._estimate = data, noise, estimate
        bands = {start: self._score_band(start, networks, tuned) for start in _scored_bands(data)}
        self._bands = bands
        while complete and self._add_pass(list(bands.values()), networks, n_folds, tuned):
            pass
        return [fold for band in bands.values() for fold in band.folds[:n_folds]]

    def score_more(
        self, data: RunCounts, noise: NoiseModel, estimate: NetworkEstimate, networks: Sequence[str], *, tuned: int
    ) -> bool:
        """Score newer weights, or one more fold, of one band whose rows did not change; False when nothing is left."""
        if _is_wide(data):
            return False
        self._data, self._noise, self._estimate = data, noise, estimate
        settled = [
            band
            for start, band in self._bands.items()
            if data.measured[start : start + BAND_ROWS].any()
            and band.basis.holds_for(_Basis.of(data, noise, _rows_of_band(data, start)[0]))
        ]
        return self._add_pass(settled, networks, FOLDS, tuned)

    def _add_pass(self, bands: Sequence[_Band], networks: Sequence[str], n_folds: int, tuned: int) -> bool:
        """Score newer weights or a missing fold of one of the bands, in turns; False when nothing is left."""
        outdated = [band for band in bands if "fine_tuned" in networks and band.tuned != tuned]
        missing = [band for band in bands if band.scored < n_folds]
        self._weights_next = bool(outdated) and (self._weights_next or not missing)
        if self._weights_next:
            self._score_weights(min(outdated, key=lambda band: band.tuned), tuned)
        elif missing:
            band = min(missing, key=lambda band: band.scored)
            self._add_fold(band, band.scored, networks)
        self._weights_next = not self._weights_next
        return bool(outdated or missing)

    def _score_band(self, start: int, networks: Sequence[str], tuned: int) -> _Band:
        """Return a band as it is, or with its first fold where its rows are new."""
        rows, wide = _rows_of_band(self._data, start)
        basis = _Basis.of(self._data, self._noise, rows)
        band = self._bands.get(start)
        if band is None or not band.basis.holds_for(basis):
            band = _Band(basis, wide)
            self._add_fold(band, 0, networks)
            band.tuned = tuned if "fine_tuned" in networks else -1
            self._bands[start] = band  # known at once: rows that are served meanwhile may ask for it
        elif band.scored == 1:
            band.wide = wide  # the first pass over its further folds sees the rows that came below it
        return band

    def _add_fold(self, band: _Band, index: int, networks: Sequence[str]) -> None:
        """Score a fold of a band, of fitted areas unless there are fewer."""
        fold = next(islice(self._folds(band.wide), index, None), None)
        if fold is not None:
            own = Fold(_cropped(fold.seen, band.inside), _cropped(fold.held, band.inside))
            errors = FoldErrors(own, index, band.basis.block, self._data.kind)
            band.folds.append(score_fold(errors, fold.seen, self._noise, self._estimate, networks, band.inside))
        band.scored = index + 1  # not before: an estimate may be interrupted

    def _score_weights(self, band: _Band, tuned: int) -> None:
        """Score the fine-tuned weights as they are now, on the fold that never trains."""
        fold = next(iter(self._folds(band.wide)), None)
        if fold is not None:
            score_network(band.folds[0], fold.seen, self._estimate, "fine_tuned", band.inside)
        band.tuned = tuned

    def _folds(self, rows: tuple[int, int]) -> Iterator[Fold]:
        return folds_of(self._data, (rows, (0, self._data.shape[1])), FOLDS, self._seed)


def _is_wide(data: RunCounts) -> bool:
    """Return True when a few squares are scored instead of bands."""
    return len(data.lines) * data.shape[1] * BAND_ROWS > LINE_PIXELS // 2


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
