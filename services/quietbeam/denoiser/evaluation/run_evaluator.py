"""The evaluation of one run as it grows: quick at the first rows, band by band during the scan, thorough at the end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..cooperative import CooperativeSchedule
from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.holdout import FOLDS
from ..estimators.networks import NetworkEstimator
from .band_folds import BandFolds, networks_scored
from .evaluate import Evaluation, evaluate

RECENT = 0.9
"""Share of the rows that an evaluation must cover to stand for the whole run."""


class RunEvaluator:
    """Evaluates, and keeps the latest evaluation.

    Attributes
    ----------
    latest
        None before the first.
    version
        Grows with every evaluation: the choice of estimators, and with it the evidence, may have changed.
    rows
        Measured rows that the latest evaluation covers.
    """

    def __init__(self, data: RunCounts, seed: int, schedule: CooperativeSchedule) -> None:
        self._data, self._seed, self._schedule = data, seed, schedule
        self._bands = BandFolds(seed)
        self.latest: Evaluation | None = None
        self.version = self.rows = 0
        self._busy = False

    @property
    def outdated(self) -> bool:
        """True when the evaluation rests on less than half of the rows that there are now, and none is under way."""
        return self.latest is None or (not self._busy and self._data.rows_measured > 2 * max(self.rows, 2))

    @property
    def recent(self) -> bool:
        """True when the evaluation covers nearly all rows."""
        return self.latest is not None and self.rows >= RECENT * self._data.rows_measured

    def evaluate_bands(
        self,
        noise: NoiseModel,
        networks: NetworkEstimator,
        names: Sequence[str],
        *,
        n_folds: int = FOLDS,
        tuned: int = 0,
        complete: bool = True,
    ) -> Evaluation:
        """Evaluate with what is known of the bands that did not change; parameters as in :meth:`BandFolds.score`."""
        rows, estimate = self._data.rows_measured, networks.estimate
        self._busy = True
        try:
            folds = self._bands.score(
                self._data, noise, estimate, names, n_folds=n_folds, tuned=tuned, complete=complete
            )
            scored = networks_scored(folds, names)
            return self._keep(evaluate(self._data, noise, estimate, scored, self._seed, folds=folds), rows)
        finally:
            self._busy = False

    def score_more(self, noise: NoiseModel, networks: NetworkEstimator, names: Sequence[str], *, tuned: int) -> bool:
        """Add a pass over one band, as in :meth:`BandFolds.score_more`, for the next evaluation."""
        return self._bands.score_more(self._data, noise, networks.estimate, names, tuned=tuned)

    def evaluate_thoroughly(
        self, noise: NoiseModel, networks: NetworkEstimator, names: Sequence[str], *, flips: int
    ) -> Evaluation:
        """Evaluate every estimator anew, averaged over ``flips``, as it is published in the end."""
        rows, estimate = self._data.rows_measured, partial(networks.estimate, flips=flips)
        yield_callback = self._schedule.yield_now
        return self._keep(
            evaluate(self._data, noise, estimate, names, self._seed, thorough=True, yield_callback=yield_callback), rows
        )

    def _keep(self, evaluation: Evaluation, rows: int) -> Evaluation:
        self.latest, self.rows = evaluation, rows
        self.version += 1
        return evaluation
