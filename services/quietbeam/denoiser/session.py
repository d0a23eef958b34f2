"""A denoising session: rows of one run in, maps and evidence out. Single-threaded; every call is bounded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.evidence import Kind, RunEvidence
from quietbeam.core.model.types import BoolArray
from quietbeam_models.network import Denoiser

from .composition import MapComposer
from .cooperative import CooperativeSchedule
from .costs import OTHER_S, PassCost
from .data.area_noise import NoiseModel, measure_noise
from .data.counts import RunCounts
from .data.holdout import FOLDS
from .estimators.device import pick_device, use_threads
from .estimators.networks import NetworkEstimator, pretrained
from .evaluation.band_folds import BAND_ROWS, HALO_ROWS
from .evaluation.run_evaluator import RunEvaluator
from .evaluation.run_evidence import TrainingRecord, run_evidence
from .learning.finetune import BurstPlan, FineTuning
from .learning.pairs import training_split
from .options import LARGE, MapUpdate, SessionOptions, never

_MAPS_TO_CONCLUDE, _BANDS_TO_CONCLUDE = 2.0, 4.0
"""Passes over the map, and over a band of it, that the final maps take: of two networks, with two bands that grew."""
_CALIBRATE_AGAIN = 0.05
"""Gains and noise are estimated anew when this share of the rows is new, and at the end of a run."""
_AT_ONCE_S = 1.0
"""An evaluation of a small map scores every fold at once where that takes less than this."""
CARRIED = "fine-tuning went on from the weights of the map before"


class DenoiseSession:
    """Denoise one run while it is measured.

    It holds the counts, the weights and the present evaluation, and decides what must be computed anew; the work is
    done by :mod:`.composition` (maps), :mod:`.learning` (fine-tuning) and :mod:`.evaluation` (choice and evidence).

    Parameters
    ----------
    lines, detectors
        Names along the axes of ``counts``.
    shape
        (row, col) of the whole map.
    kind
        ``counts``: whole photon counts; ``areas``: fitted areas with noise of their own.
    start
        Weights that fine-tuning goes on from, of the map before in a stack; scored like any other estimate.
    carried
        False: they were learned on rows of this map, before it needed more room.
    note
        Sentence that all evidence of the run has.

    Raises
    ------
    InputError
        When names or shape are empty or the device is unknown.
    WeightsError
        When the pretrained weights are missing or damaged.
    """

    def __init__(
        self,
        *,
        lines: Sequence[str],
        detectors: Sequence[str],
        shape: tuple[int, int],
        kind: Kind = "counts",
        options: SessionOptions | None = None,
        start: Denoiser | None = None,
        carried: bool = True,
        note: str = "",
    ) -> None:
        self.options = options or SessionOptions()
        self.device = pick_device(self.options.device)
        use_threads(self.device, self.options.threads)
        self.data = RunCounts(lines, detectors, shape, kind, self.options.seed)
        self.weights = pretrained(self.options.weights)
        self._base = self.weights.network.to(self.device)
        self._tuning = None if start is None else self._fine_tuning(start)
        self._carried, self._note = start is not None and carried, note
        self._noise = NoiseModel.poisson(len(self.data.lines))
        self._rows_uncalibrated = 0
        self._final = False
        self._schedule, self._cost = CooperativeSchedule(), PassCost()
        self._evaluator = RunEvaluator(self.data, self.options.seed, self._schedule)
        self._exhausted_rows = 0

    def add_rows(
        self,
        first_row: int,
        counts: NDArray[Any],
        measured: BoolArray,
        i0: NDArray[np.floating] | None = None,
        live_time_s: NDArray[np.floating] | None = None,
    ) -> None:
        """Add rows; a row that comes again replaces the old one.

        Parameters
        ----------
        counts
            (detector, line, n, col).
        measured
            (n, col) bool.
        i0
            (n, col), any unit.
        live_time_s
            (detector, n, col).

        Raises
        ------
        InputError
            When shapes do not fit, or values are not what ``kind`` promises.
        """
        self.data.add_rows(first_row, counts, measured, i0, live_time_s)
        self._rows_uncalibrated += len(measured)

    def infer(
        self, rows: tuple[int, int] | None = None, yield_callback: Callable[[], object] | None = None
    ) -> MapUpdate:
        """Return maps of all rows, or of those that change when rows ``[a, b)`` are new.

        ``yield_callback`` as in :meth:`evaluate`; rows that it adds are not in the returned maps.
        """
        with self._schedule.serving(yield_callback):
            if self._evaluator.outdated:
                self._evaluate_quickly()
            composer = self._composer()
            return composer.compose_map() if rows is None else composer.compose_strip(rows)

    def fine_tune(
        self,
        budget_s: float,
        interrupt: Callable[[], bool] = never,
        *,
        anneal: bool = False,
        check_at_end: bool = True,
        yield_callback: Callable[[], object] | None = None,
        steps: int | None = None,
    ) -> int:
        """Learn from the rows so far for at most ``budget_s``, or for ``steps`` steps; return the steps done.

        Held-out photons never train; they choose among the weights on the way. Of fitted areas whole detectors are held
        out, so that it takes three to learn. ``anneal``, ``check_at_end`` and ``interrupt`` as in :class:`BurstPlan`;
        ``yield_callback`` as in :meth:`evaluate`: rows that it adds train from the next burst on.
        """
        if not self.data.measured.any() or self.learned_enough:
            return 0
        if self.data.kind == "areas":
            self._update_calibration()
        split = training_split(self.data, self._noise)
        if split is None:
            return 0
        if self._tuning is None:
            self._tuning = self._fine_tuning(self._base)
        rows = self.data.rows_measured
        with self._schedule.serving(yield_callback):
            plan = BurstPlan(
                budget_s=budget_s,
                steps=steps,
                anneal=anneal,
                check_at_end=check_at_end,
                interrupt=interrupt,
                yield_callback=self._schedule.yield_callback,
            )
            done = self._tuning.burst(*split, plan)
        self._exhausted_rows = rows if self._tuning.exhausted else 0
        return done

    def evaluate(self, yield_callback: Callable[[], object] | None = None, *, complete: bool = True) -> RunEvidence:
        """Score every estimator on held-out photons and choose what :meth:`infer` publishes, line by line.

        ``yield_callback()`` is called every fraction of a second; it may add rows and infer them. ``complete`` False
        scores no more than new rows need; :meth:`evaluate_more` adds to it.
        """
        with self._schedule.serving(yield_callback):
            every_fold_s = 2 * (FOLDS + 1) * self._band_s  # of two bands
            return self._evaluate(complete=complete or 0 < every_fold_s < _AT_ONCE_S)

    def evaluate_more(self, yield_callback: Callable[[], object] | None = None) -> bool:
        """Score a part of the map better, for the next evaluation; False when nothing is left to score."""
        with self._schedule.serving(yield_callback):
            return self._evaluator.score_more(self._noise, self._networks(), self._names, tuned=self._tuned_version)

    def conclude(
        self, within_s: float = math.inf, yield_callback: Callable[[], object] | None = None
    ) -> tuple[MapUpdate, RunEvidence]:
        """Return the final maps and evidence of a run that has ended, as quickly as possible.

        Evaluates only what changed since the last evaluation, and learns nothing more; :meth:`finalize` takes ten times
        as long for the best maps that there can be.

        Parameters
        ----------
        within_s
            Half of it is for the evaluation of what is new, the maps, and as much of the evaluation of older rows as
            fits. Where evaluation and maps will take longer than `within_s`, the last evaluation stands, unless it is
            much older.
        yield_callback
            As in :meth:`evaluate`.
        """
        with self._schedule.serving(yield_callback):
            until = time.monotonic() + within_s / 2 - self.conclude_s()
            if not self._evaluator.recent or self.conclude_s() <= within_s:
                self._update_calibration()
                self._evaluate(complete=math.isinf(within_s))
                more = False
                while time.monotonic() < until and self.evaluate_more():
                    more = True
                if more:
                    self._evaluate(complete=False)
            evidence = self.evidence()
            update = self._composer().compose_map()
            self._final = True
            return update, replace(evidence, final=True)

    def finalize(
        self,
        budget_s: float,
        on_progress: Callable[[str, float], object] | None = None,
        yield_callback: Callable[[], object] | None = None,
        steps: int | None = None,
    ) -> tuple[MapUpdate, RunEvidence]:
        """Fine-tune once more, evaluate, and return the final maps (averaged over flips) and evidence.

        ``on_progress(step, share)`` is called along the way; ``yield_callback`` as in :meth:`evaluate`, ``steps`` as in
        :meth:`fine_tune`.
        """
        report = on_progress or (lambda *_: None)
        with self._schedule.serving(yield_callback):
            if budget_s > 0 or steps:
                interrupt = _progress_of_burst(partial(report, "fine-tune"), budget_s, steps)
                self.fine_tune(budget_s, interrupt, anneal=True, steps=steps)
            report("evaluate", 0.0)
            self._final = True
            flips = self._final_flips
            # evaluated as it is published, averaged over flips; half of them are most of the effect
            self._update_calibration()
            judged = max(1, flips // 2)
            self._evaluator.evaluate_thoroughly(self._noise, self._networks(), self._names, flips=judged)
            evidence = replace(self.evidence(), refined=True)
            report("denoise", 0.0)
            update = self._composer().compose_map(flips, partial(report, "denoise"))
            report("denoise", 1.0)
            return update, evidence

    def evidence(self) -> RunEvidence:
        """Return the evidence of the latest evaluation, of which there must have been one."""
        evaluation, rows = self._evaluator.latest, self._evaluator.rows
        assert evaluation is not None
        tuning = self._tuning
        training = TrainingRecord() if tuning is None else TrainingRecord(tuning.steps, tuning.seconds, tuning.loss)
        notes = [note for note, holds in ((CARRIED, self._carried), (self._note, self._note)) if holds]
        return run_evidence(self.data, evaluation, self.weights, training, rows=rows, final=self._final, notes=notes)

    @property
    def evaluation_version(self) -> int:
        """Grows with every evaluation: the choice of estimators, and with it the evidence, may have changed."""
        return self._evaluator.version

    def conclude_s(self) -> float:
        """Return about how long :meth:`conclude` takes at most [s]; 0 before the first pass."""
        return self._cost.seconds(self._line_pixels, _MAPS_TO_CONCLUDE) + _BANDS_TO_CONCLUDE * self._band_s

    @property
    def _band_s(self) -> float:
        """About how long a pass over a band of the evaluation takes [s]."""
        rows = min(BAND_ROWS + 2 * HALO_ROWS, self.data.rows_measured)
        return self._cost.seconds(len(self.data.lines) * rows * self.data.shape[1])

    def finalize_s(self) -> float:
        """Return about how long :meth:`finalize` takes without fine-tuning [s]; 0 before the first pass."""
        judged = max(1, self._final_flips // 2)
        passes = (FOLDS + 3) * judged + 2 * self._final_flips
        return self._cost.seconds(self._line_pixels, passes) + OTHER_S * self._line_pixels

    @property
    def _line_pixels(self) -> int:
        return len(self.data.lines) * self.data.rows_measured * self.data.shape[1]

    @property
    def _final_flips(self) -> int:
        large = len(self.data.lines) * self.data.shape[0] * self.data.shape[1] > LARGE
        return max(1, self.options.final_flips // 2) if large else self.options.final_flips

    @property
    def learned_enough(self) -> bool:
        """True when more fine-tuning on the present rows, or hardly more of them, was found to be of no use."""
        return self.data.rows_measured < 1.05 * self._exhausted_rows

    @property
    def recipe(self) -> tuple[Hashable, ...]:
        """What the maps are made by: they change when it changes, or rows do."""
        version = self._tuned_version
        if self._evaluator.latest is None:
            return (version,)
        selection = self._evaluator.latest.selection
        return version, selection.choices, selection.widths

    @property
    def learned(self) -> Denoiser | None:
        """Weights that were learned from this run, or from the map before; None before the first step."""
        tuned = self._tuning is not None and (self._carried or self._tuning.steps > 0)
        return self._tuning.chosen if tuned and self._tuning is not None else None

    @property
    def _tuned_version(self) -> int:
        return 0 if self._tuning is None else self._tuning.chosen_version

    def _evaluate(self, *, complete: bool) -> RunEvidence:
        if complete or self._rows_uncalibrated > _CALIBRATE_AGAIN * self.data.rows_measured:
            self._update_calibration()
        self._evaluator.evaluate_bands(
            self._noise, self._networks(), self._names, tuned=self._tuned_version, complete=complete
        )
        return self.evidence()

    def _evaluate_quickly(self) -> None:
        """Score the network at the start on one fold, so that nothing untested is published before evaluate()."""
        self._update_calibration()
        if self.data.rows_measured:
            names = ("pretrained", "fine_tuned") if self._carried else ("pretrained",)
            self._evaluator.evaluate_bands(self._noise, self._networks(), names, n_folds=1)

    @property
    def _names(self) -> tuple[str, ...]:
        return ("pretrained",) if self.learned is None else ("pretrained", "fine_tuned")

    def _update_calibration(self) -> None:
        """Estimate gains, and the noise of fitted areas, anew after new rows."""
        if self._rows_uncalibrated:
            self.data.estimate_gains()
            if self.data.kind == "areas":
                self._noise = measure_noise(self.data)
            self._rows_uncalibrated = 0

    def _networks(self) -> NetworkEstimator:
        tuned = self._base if self._tuning is None else self._tuning.chosen
        noise = self._noise if self.data.kind == "areas" else None
        networks = {"pretrained": self._base, "fine_tuned": tuned}
        return NetworkEstimator(networks, noise, self.device, self.options.tile, self._schedule, self._cost)

    def _composer(self) -> MapComposer:
        selection = None if self._evaluator.latest is None else self._evaluator.latest.selection
        return MapComposer(self.data, self._noise, selection, self._networks(), self._schedule)

    def _fine_tuning(self, start: Denoiser) -> FineTuning:
        return FineTuning(start, self.device, self.options.seed, learning_rate=self.options.lr)


def _progress_of_burst(
    on_progress: Callable[[float], object], budget_s: float, steps: int | None
) -> Callable[[], bool]:
    """Return an interrupt that never interrupts a burst and reports its progress whenever it is asked."""
    started, done = time.monotonic(), 0

    def interrupt() -> bool:
        nonlocal done
        share = (time.monotonic() - started) / max(budget_s, 1e-9) if steps is None else done / max(steps, 1)
        on_progress(min(share, 1.0))
        done += 1
        return False

    return interrupt
