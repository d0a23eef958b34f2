"""A denoising session: rows of one run in, maps and evidence out. Single-threaded; every call is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray

from quietbeam.core.model.evidence import DetectorEvidence, Kind, RunEvidence
from quietbeam.core.model.types import BoolArray, FloatArray
from quietbeam_models.network import Denoiser

from .checks.line_checks import local_chi2
from .checks.proven_pixels import beyond_counting
from .data.area_noise import NoiseModel, measure_noise
from .data.counts import RunCounts, Sums
from .estimators.networks import part_of, pick_device, predict, pretrained, use_threads
from .estimators.nonlocal_means import averaged_noise, one_variant
from .estimators.smoother import smooth
from .evaluation.evaluate import Evaluation, Part, evaluate, mix, rounded
from .evaluation.fold_errors import calibrated
from .evaluation.risk import held_detectors
from .learning.pairs import DetectorPairs, Pairs, ThinnedPairs
from .options import LARGE, DenoiseOptions, MapUpdate, never, untold

if TYPE_CHECKING:
    from .learning.finetune import FineTuning

log = structlog.get_logger()

CARRIED = "fine-tuning went on from the weights of the map before"
_BETWEEN_S = 0.05


class DenoiseSession:
    """Denoise one run while it is measured.

    Parameters
    ----------
    lines, detectors
        Names along the axes of ``counts``.
    shape
        (row, col) of the whole map.
    kind
        ``counts``: whole photon counts; ``areas``: fitted areas with noise of their own.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    seed
        Fixes every random draw.
    start
        Weights that fine-tuning goes on from, of the map before in a stack; judged like any other estimate.

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
        device: str = "auto",
        seed: int = 0,
        settings: DenoiseOptions | None = None,
        start: Denoiser | None = None,
    ) -> None:
        self.options = settings or DenoiseOptions()
        self.device = pick_device(device)
        use_threads(self.device, self.options.threads)
        self.data = RunCounts(lines, detectors, shape, kind, seed, self.options.held_out)
        self.seed = seed
        self.weights = pretrained(self.options.weights)
        self._base = self.weights.network.to(self.device)
        self._tuning = None if start is None else self._fine_tuning(start)
        self._carried = start is not None
        self._evaluation: Evaluation | None = None
        self.judgements = 0
        """Grows whenever the choice of estimates, and with it the evidence, is made anew."""
        self._noise = NoiseModel.poisson(len(self.data.lines))
        self._dirty = True
        self._final = False
        self._between: Callable[[], object] | None = None

    # -- rows in ------------------------------------------------------------------------------------------------
    def add_rows(
        self,
        first_row: int,
        counts: NDArray[Any],
        measured: BoolArray,
        i0: NDArray[np.floating] | None = None,
        live_time_s: NDArray[np.floating] | None = None,
    ) -> None:
        """Take in rows; the same row may come again and replaces what was there.

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
        self._dirty = True

    # -- maps out -----------------------------------------------------------------------------------------------
    def infer(self, rows: tuple[int, int] | None = None, between: Callable[[], object] | None = None) -> MapUpdate:
        """Return maps of all rows, or of those that change when rows ``[a, b)`` are new.

        ``between`` as in :meth:`evaluate`; rows that it adds are not in the returned maps.
        """
        with self._giving_way(between):
            return self._infer(rows)

    def _infer(self, rows: tuple[int, int] | None) -> MapUpdate:
        if self._evaluation is None or self._stale:
            self._quick_check()
        n_rows = self.data.shape[0]
        if rows is None:
            return self._maps((0, n_rows), (0, n_rows))
        halo = self.options.halo
        # nothing is seen beyond the first and the last row that is measured
        lit = [*np.flatnonzero(self.data.measured.any(1)).tolist(), *range(*rows)]
        first, stop = min(lit), max(lit) + 1
        out = max(rows[0] - halo // 4, first), min(rows[1] + halo // 4, stop)
        return self._maps(out, (max(out[0] - halo, first), min(out[1] + halo, stop)))

    def _maps(
        self, out: tuple[int, int], look: tuple[int, int], flips: int = 1, told: Callable[[float], object] = untold
    ) -> MapUpdate:
        """Return maps of rows ``out``, computed from rows ``look``; ``told`` is told which share is done."""
        sums = self.data.sums("all", look)
        raw, evaluation = sums.rate, self._evaluation
        one = self._noise.factor[:, None, None] ** 2  # variance of one effective count
        variance = np.maximum(self._noise.variance(sums), one)
        deviation = np.divide(np.sqrt(variance), sums.exposure, out=np.zeros_like(raw), where=sums.exposure > 0)
        denoised = raw.copy()
        if evaluation is not None:
            found = self._parts(evaluation, sums, look, flips, told)
            for j, choice in enumerate(evaluation.choices):
                if choice.estimator != "raw":
                    parts = {name: found[name](j) for name in evaluation.parts(j)}
                    part = mix(evaluation.parts(j), parts)
                    denoised[j] = part.rate
                    error = evaluation.deviation(j, part, sums.exposure[j], self._noise)
                    odd = self._proven_by_raw(denoised[j], sums, j)
                    denoised[j][odd], error[odd] = raw[j][odd], deviation[j][odd]
                    deviation[j] = error
                    if odd.any() and look == (0, self.data.shape[0]):
                        denoised[j] = calibrated(denoised[j : j + 1], _line(sums, j))[0][0]
        lit = (sums.exposure > 0) & self.data.measured[look[0] : look[1]]
        a, b = out[0] - look[0], out[1] - look[0]
        explained = np.maximum(self._noise.variance(Sums(sums.exposure * denoised, sums.exposure)), 1e-6 * one)
        unit = self.data.unit[:, None, None]
        maps = (raw * unit, denoised * unit, deviation * unit, local_chi2(sums, denoised, explained))
        clean = [np.where(lit, np.nan_to_num(m), 0).astype(np.float32)[:, a:b] for m in maps]
        return MapUpdate(rows=out, raw=clean[0], denoised=clean[1], uncertainty=clean[2], chi2=clean[3])

    def _proven_by_raw(self, rate: FloatArray, sums: Sums, j: int) -> BoolArray:
        """Return where line ``j`` is shown as it was counted, (row, col); fitted areas have no such tails."""
        if self.data.kind == "areas":
            return np.zeros(rate.shape, bool)
        return beyond_counting(rate, sums.counts[j], sums.exposure[j])

    def _parts(
        self,
        evaluation: Evaluation,
        sums: Sums,
        look: tuple[int, int],
        flips: int,
        told: Callable[[float], object],
    ) -> dict[str, Callable[[int], Part]]:
        """Return, by estimate that is published for any line, what it makes of line ``j``."""
        whole = look == (0, self.data.shape[0])
        wanted = {name for j in range(len(evaluation.choices)) for name in evaluation.parts(j)}
        maps: dict[str, tuple[FloatArray, FloatArray | None]] = {"raw": (sums.rate, None)}
        guide = {evaluation.guide} if "nonlocal" in wanted else set()
        names = wanted & {"pretrained", "fine_tuned"} | guide
        for k, name in enumerate(names):
            rate, expected = self._estimate(name, sums, flips, part_of(told, k, len(names)))
            # a strip's own total says too little
            factor = calibrated(rate, sums)[1] if whole else evaluation.scale(name)
            maps[name] = rate * factor[:, None, None], expected

        constant = any(choice.constant for choice in evaluation.choices)
        levels = (sums if whole else self.data.sums("all")).level if constant else np.zeros(0)

        def smoother(j: int) -> Part:
            width = evaluation.widths[j]
            if np.isinf(width):
                return Part(np.full(sums.counts[j].shape, levels[j], np.float32))
            return Part(smooth(sums.counts[j], sums.exposure[j], width))

        def alike(j: int) -> Part:
            guide, expected = maps[evaluation.guide]
            rate, exposure = one_variant(sums, guide, self._noise, evaluation.variants[j], j, self._give_way)
            factor = calibrated(rate[None], _line(sums, j))[1][0] if whole else evaluation.scale("nonlocal")[j]
            least = averaged_noise(rate, exposure, self._noise, j)
            return Part(rate * factor, None if expected is None else expected[j], least)

        def part(name: str, j: int) -> Part:
            rate, expected = maps[name]
            return Part(rate[j], None if expected is None else expected[j])

        return {**{name: partial(part, name) for name in maps}, "smoother": smoother, "nonlocal": alike}

    def _estimate(
        self, name: str, sums: Sums, flips: int = 1, told: Callable[[float], object] = untold
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return a network's rate of ``sums`` and its expected squared error (line, row, col)."""
        network = self._tuning.chosen if name == "fine_tuned" and self._tuning is not None else self._base
        areas = self.data.kind == "areas"
        effective = self._noise.to_counts(sums) if areas else sums
        rate, variance = predict(
            network, effective, self.device, tile=self.options.tile, flips=flips, between=self._between, told=told
        )
        if areas:
            rate = self._noise.from_rate(rate).astype(np.float32)
            variance = None if variance is None else variance * self._noise.factor[:, None, None] ** 2
        return rate, variance

    # -- learning -----------------------------------------------------------------------------------------------
    def fine_tune(
        self,
        budget_s: float,
        interrupt: Callable[[], bool] = never,
        *,
        anneal: bool = False,
        look: bool = True,
        between: Callable[[], object] | None = None,
        steps: int | None = None,
    ) -> int:
        """Learn from the rows so far for at most ``budget_s``, or at most so many ``steps``; return the steps done.

        Held-out photons never train; they choose among the weights on the way. Of fitted areas whole detectors are held
        out, so that it takes three to learn. ``anneal`` lowers the learning rate towards the end of the budget: for the
        last burst of a run. ``look`` False leaves out the look at held-out photons at the end of a burst.
        ``between`` as in :meth:`evaluate`; rows that it adds train from the next burst on.
        """
        if not self.data.measured.any() or self.learned_enough:
            return 0
        split = self._learnable()
        if split is None:
            return 0
        if self._tuning is None:
            self._tuning = self._fine_tuning(self._base)
        pairs, held = split
        rows = self.data.rows_measured
        with self._giving_way(between):
            taken = self._tuning.burst(
                pairs, budget_s, interrupt, held=held, anneal=anneal, look=look, between=self._between, most=steps
            )
        self._exhausted_rows = rows if self._tuning.exhausted else 0
        return taken

    def _learnable(self) -> tuple[Pairs, Sums] | None:
        """Return what trains and what is held out of it for ever; None where nothing can be held out."""
        if self.data.kind == "counts":
            return ThinnedPairs(self.data.sums("train")), self.data.sums("held")
        self._prepare()
        usable = self.data.gains.usable
        held = next(iter(held_detectors(usable)), usable)
        train = usable & ~held
        if train.sum() < 2:
            return None
        return (
            DetectorPairs(self.data, self._noise, train),
            self._noise.to_counts(self.data.sums("all", detectors=held)),
        )

    @property
    def learned_enough(self) -> bool:
        """True when more fine-tuning on the present rows, or hardly more of them, was found to be of no use."""
        return self.data.rows_measured < 1.05 * self._exhausted_rows

    @property
    def learned(self) -> Denoiser | None:
        """Weights that were learned from this run, or from the map before; None before the first step."""
        tuned = self._tuning is not None and (self._carried or self._tuning.steps > 0)
        return self._tuning.chosen if tuned and self._tuning is not None else None

    # -- evidence -----------------------------------------------------------------------------------------------
    def evaluate(self, between: Callable[[], object] | None = None) -> RunEvidence:
        """Judge every estimate on held-out photons and choose what :meth:`infer` publishes, line by line.

        ``between()`` is called every fraction of a second; it may add rows and infer them.
        """
        with self._giving_way(between):
            return self._evaluate()

    def _evaluate(self, flips: int = 1) -> RunEvidence:
        self._prepare()
        names = ("pretrained",) if self.learned is None else ("pretrained", "fine_tuned")
        judged = partial(self._estimate, flips=flips)
        self.judgements += 1
        self._evaluation = evaluate(
            self.data,
            self._noise,
            judged,
            names,
            self.options,
            self.seed,
            thorough=self._final,
            between=self._give_way,
        )
        self._evaluated_rows = self.data.rows_measured
        return self.evidence()

    def finalize(
        self,
        budget_s: float,
        progress: Callable[[str, float], None] | None = None,
        between: Callable[[], object] | None = None,
        steps: int | None = None,
    ) -> tuple[MapUpdate, RunEvidence]:
        """Fine-tune once more, judge, and return the final maps (averaged over flips) and evidence.

        ``progress(what, share)`` is told how far it is; ``between`` as in :meth:`evaluate`, ``steps`` as in
        :meth:`fine_tune`.
        """
        with self._giving_way(between):
            return self._finalize(budget_s, progress, steps)

    def _finalize(
        self, budget_s: float, progress: Callable[[str, float], None] | None, steps: int | None
    ) -> tuple[MapUpdate, RunEvidence]:
        tell = progress or (lambda *_: None)
        started, done = time.monotonic(), 0

        def tell_time() -> bool:
            nonlocal done
            share = (time.monotonic() - started) / max(budget_s, 1e-9) if steps is None else done / max(steps, 1)
            tell("fine-tune", min(share, 1.0))
            done += 1
            return False

        if budget_s > 0 or steps:
            self.fine_tune(budget_s, tell_time, anneal=True, steps=steps)
        tell("evaluate", 0.0)
        self._final = True
        flips = self.options.final_flips
        if len(self.data.lines) * self.data.shape[0] * self.data.shape[1] > LARGE:
            flips = max(1, flips // 2)
        # judged as it is published, averaged over flips; half of them are most of the effect
        evidence = self._evaluate(flips=max(1, flips // 2))
        tell("denoise", 0.0)
        everything = (0, self.data.shape[0])
        update = self._maps(everything, everything, flips, partial(tell, "denoise"))
        tell("denoise", 1.0)
        return update, evidence

    # -- inside -------------------------------------------------------------------------------------------------
    def _fine_tuning(self, start: Denoiser) -> FineTuning:
        from .learning.finetune import FineTuning

        return FineTuning(start, self.device, self.options, self.seed)

    @contextmanager
    def _giving_way(self, between: Callable[[], object] | None) -> Iterator[None]:
        """Let `between` in every `_BETWEEN_S`, and for two thirds of the time at most, however many rows wait.

        What it asks of this session is done in one go.
        """
        ready, inside = time.monotonic() + _BETWEEN_S, False

        def call() -> None:
            nonlocal ready, inside
            if inside or time.monotonic() < ready:
                return
            self._between, inside, began = None, True, time.monotonic()
            try:
                between()  # type: ignore[misc]
            finally:
                self._between, inside = call, False
                ready = time.monotonic() + max(_BETWEEN_S, 0.5 * (time.monotonic() - began))

        self._between = call if between is not None else None
        try:
            yield
        finally:
            self._between = None

    def _give_way(self) -> None:
        if self._between is not None:
            self._between()

    _evaluated_rows: int = 0
    _exhausted_rows: int = 0

    @property
    def _stale(self) -> bool:
        """True when the choice rests on less than half of the rows that are there now."""
        return self.data.rows_measured > 2 * max(self._evaluated_rows, 2)

    def _prepare(self) -> None:
        if self._dirty:
            self.data.estimate_gains()
            if self.data.kind == "areas":
                self._noise = measure_noise(self.data)
            self._dirty = False

    def _quick_check(self) -> None:
        """Judge the network we start from on one fold, so that nothing untested is published before evaluate()."""
        self._prepare()
        if self.data.rows_measured == 0:
            return
        names = ("pretrained", "fine_tuned") if self._carried else ("pretrained",)
        self.judgements += 1
        self._evaluation = evaluate(self.data, self._noise, self._estimate, names, self.options, self.seed, folds=1)
        self._evaluated_rows = self.data.rows_measured

    def evidence(self) -> RunEvidence:
        """Return what the present choice of estimates rests on; there must have been rows to judge."""
        assert self._evaluation is not None
        tuning = self._tuning
        return RunEvidence(
            rows=self.data.rows_measured,
            lines=self._evaluation.line_evidence(self.data),
            detectors=self._detectors(),
            kind=self.data.kind,
            model=self.weights.name,
            model_sha256=self.weights.sha256,
            fine_tune_steps=tuning.steps if tuning else 0,
            fine_tune_s=round(tuning.seconds, 2) if tuning else 0.0,
            loss=round(tuning.loss, 5) if tuning and tuning.loss is not None else None,
            final=self._final,
            jitter_pixels=rounded(self._evaluation.jitter[0]),
            jitter_rows=rounded(self._evaluation.jitter[1]),
            notes=(*self._evaluation.notes, *([CARRIED] if self._carried else [])),
        )

    def _detectors(self) -> tuple[DetectorEvidence, ...]:
        gains = self.data.gains
        total = self.data.counts.sum((2, 3), dtype=np.float64) @ self.data.unit
        return tuple(
            DetectorEvidence(
                detector=name,
                gains={
                    line: round(float(gains.values[k, j]), 5)
                    for j, line in enumerate(self.data.lines)
                    if gains.included[k, j]
                },
                total_counts=float(total[k]),
                drift=round(float(np.nan_to_num(gains.drift[k])), 5),
            )
            for k, name in enumerate(self.data.detectors)
        )


def _line(sums: Sums, j: int) -> Sums:
    """Return one line's sums, (1, row, col)."""
    return Sums(sums.counts[j : j + 1], sums.exposure[j : j + 1])
