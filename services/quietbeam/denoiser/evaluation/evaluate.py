"""Scores every estimator on held-out photons, chooses one for each line, and checks what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from quietbeam.core.model.types import Float64Array, FloatArray

from ..checks.common_mode import common_mode
from ..checks.false_structure import false_structure
from ..checks.line_checks import LineChecks, check_line
from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.holdout import FOLDS
from ..data.sums import Sums
from ..estimators.smoother import WIDTHS
from ..options import never
from .band_folds import joined
from .combination import Weights
from .fold_errors import (
    CONTROL,
    NONLOCAL_CONTROL,
    FoldErrors,
    NetworkEstimate,
    best_widths,
    controlled_error,
    first_folds,
    score_combination,
    score_folds,
    score_nonlocal_means,
    total_counting_variance,
    total_error,
)
from .gate import Choice, choose, keep_raw, not_tested
from .line_estimate import LineEstimate, combine_estimates
from .selection import Scores, Selection, scored_name
from .single_detector import choose_untested
from .user_notes import user_notes

EXPOSURE_EXPONENT = 0.35
"""Dwell gain falls with exposure as ``exposure**-0.35`` (simulations: 0.23 to 0.45): carries a gain that was measured
at three quarters of the exposure over to the published map, which uses all counts. A constant keeps its gain."""
_NOT_KNOWN = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Result of :func:`evaluate`.

    Attributes
    ----------
    selection
        What is published.
    checks
        Checks of the published map on held-out data, per line.
    false_structure
        Structure that the published estimate prints into lines without any, (line,); NaN where not measured.
    jitter
        Common-mode noise that is left, of pixels and of rows; None where it cannot be told.
    notes
        Sentences for the user.
    """

    selection: Selection
    checks: tuple[LineChecks, ...]
    false_structure: Float64Array
    jitter: tuple[float | None, float | None]
    notes: tuple[str, ...]


def evaluate(
    data: RunCounts,
    noise: NoiseModel,
    estimate: NetworkEstimate,
    networks: Sequence[str],
    seed: int,
    *,
    folds: Sequence[FoldErrors] | None = None,
    thorough: bool = False,
    yield_callback: Callable[[], object] = never,
) -> Evaluation:
    """Score raw, smoother and the named networks, and choose.

    What trained on this run (``fine_tuned``) is scored only on the fold that never trains; its error on the other
    folds is the pretrained network's plus the difference between the two on the first, which has far less variance.
    ``folds`` are scored already where they are given. ``thorough`` also tries non-local means and the combination, and
    measures false structure: for finished maps, which may take longer.
    """
    if folds is None:
        folds = score_folds(data, noise, estimate, networks, seed, FOLDS)
    if not folds:
        return _without_held_out_data(data, noise, seed)
    variants, guide = [0] * len(data.lines), ""
    weights: list[Weights] = [{} for _ in data.lines]
    widths = best_widths(folds)
    if thorough and networks:
        guide = networks[-1]
        variants = score_nonlocal_means(folds, noise, guide, yield_callback)
        weights = score_combination(folds, widths, (*networks, "nonlocal"))
    tested = folds[0] if thorough else joined(folds)
    scores = _total_scores(folds, networks, widths, seed)
    sums = data.sums("all")
    measured = np.asarray(sums.exposure.any((1, 2)))
    choices = [
        _choose(data, scores, j, combined=len(weights[j]) > 1)
        if measured[j]
        else not_tested("Nothing was measured of this line.")
        for j in range(len(data.lines))
    ]
    selection = Selection(
        choices=tuple(choices),
        widths=tuple(np.inf if c.constant else width for c, width in zip(choices, widths, strict=True)),
        weights=tuple(weights),
        variants=tuple(variants),
        guide=guide,
        scores=scores,
        scales=tested.scales,
    )
    printed = np.full(len(data.lines), np.nan)
    if thorough and data.kind == "counts":
        printed = _false_structure(selection, estimate, networks, tested.fold.seen)
    jitter = common_mode(sums)
    return Evaluation(
        selection=selection,
        checks=tuple(_check(selection, j, tested, noise) for j in range(len(data.lines))),
        false_structure=printed,
        jitter=jitter,
        notes=tuple(user_notes(data, choices, jitter[1])),
    )


def carry_over(data: RunCounts, *, constant: bool = False) -> float:
    """Return the factor from a dwell gain measured on the training share to that with all counts; 1 for a constant."""
    return float((1.0 - data.share) ** EXPOSURE_EXPONENT) if data.kind == "counts" and not constant else 1.0


def _total_scores(folds: Sequence[FoldErrors], networks: Sequence[str], widths: Sequence[float], seed: int) -> Scores:
    """Return the errors over all folds of the estimators that were scored on them."""
    smoothers = {str(width): total_error(folds, str(width)) for width in WIDTHS}
    errors = {
        "raw": total_error(folds, "raw"),
        "constant": smoothers[str(np.inf)],
        "smoother": np.stack([smoothers[str(width)][j] for j, width in enumerate(widths)]),
    }
    counting = dict.fromkeys(errors, total_counting_variance(folds))
    controls = {"fine_tuned": CONTROL, "nonlocal": NONLOCAL_CONTROL, "combined": CONTROL}
    for name in (*networks, "nonlocal", "combined"):
        if name in controls and name in first_folds(folds)[0].errors:
            errors[name], counting[name] = controlled_error(folds, name, controls[name])
        elif name not in controls:
            errors[name], counting[name] = total_error(folds, name), counting["raw"]
    return Scores(errors, counting, seed)


def _choose(data: RunCounts, scores: Scores, j: int, *, combined: bool) -> Choice:
    """Choose for line ``j``; the combination is a candidate where it has more than one part."""
    errors = scores.of_line(j)
    if not combined:
        errors.pop("combined", None)
    choice = choose(errors, carry_over(data)) if errors["raw"].any() else not_tested(_why_untested(data))
    carry = carry_over(data, constant=choice.constant)
    if choice.estimator != "raw" and carry * scores.interval(j, scored_name(choice))[1] < 1.0:
        return keep_raw("The interval of the dwell gain begins below 1, so raw is published.")
    return choice


def _why_untested(data: RunCounts) -> str:
    """Return why nothing of a measured line is held out."""
    if data.kind == "counts":
        return "The line has no counts that could be held out."
    return "Only one detector has usable areas of this line: nothing can be held out."


def _check(selection: Selection, j: int, scored: FoldErrors, noise: NoiseModel) -> LineChecks:
    """Check line ``j`` on the fold that never trains."""
    seen, held = (Sums(s.counts[j], s.exposure[j]) for s in (scored.fold.seen, scored.fold.held))
    weights = selection.estimators(j)
    estimates = {}
    for name in weights:
        rates = scored.rates[str(selection.widths[j]) if name == "smoother" else name]
        variances, least = scored.variances.get(name), scored.least_variances.get(name)
        estimates[name] = LineEstimate(
            rates[j], None if variances is None else variances[j], None if least is None else least[j]
        )
    estimate = combine_estimates(weights, estimates)
    return check_line(
        seen,
        held,
        estimate.rate,
        selection.uncertainty(j, estimate, seen.exposure, noise),
        float(noise.factor[j]),
        float(noise.constant[j]),
        published_raw=selection.choices[j].estimator == "raw",
    )


def _false_structure(
    selection: Selection, estimate: NetworkEstimate, networks: Sequence[str], seen: Sums
) -> Float64Array:
    """Return the structure that each line's network prints; a constant prints none, raw and smoothers do not invent.

    Non-local means can print what the network does in whose map they compare patches.
    """
    found = np.full(len(selection.choices), np.nan)
    for name in networks:
        printing = {name, "nonlocal"} if name == selection.guide else {name}
        lines = [j for j in range(len(found)) if printing & set(selection.estimators(j))]
        if lines:
            printed = false_structure(partial(_rate_of, estimate, name), seen, selection.scores.seed)
            found[lines] = np.fmax(found[lines], printed[lines])
    found[[choice.constant for choice in selection.choices]] = 0.0
    return found


def _rate_of(estimate: NetworkEstimate, name: str, sums: Sums) -> FloatArray:
    return estimate(name, sums)[0]


def _without_held_out_data(data: RunCounts, noise: NoiseModel, seed: int) -> Evaluation:
    """Return a careful choice that nothing tests: one detector of fitted areas, or nothing measured."""
    n = len(data.lines)
    choices = [not_tested("Nothing is measured yet.")] * n
    weights: list[Weights] = [{} for _ in range(n)]
    note = "nothing is measured yet"
    if data.measured.any():
        choices, weights = choose_untested(data, noise, seed)
        note = "one detector of fitted areas: nothing can be held out, so what is published is not tested"
    zeros = np.zeros((n, 1))
    return Evaluation(
        selection=Selection(
            choices=tuple(choices),
            widths=(np.inf,) * n,
            weights=tuple(weights),
            variants=(0,) * n,
            guide="",
            scores=Scores({"raw": zeros, "constant": zeros}, {}, seed),
            scales={},
        ),
        checks=(LineChecks(),) * n,
        false_structure=np.full(n, np.nan),
        jitter=_NOT_KNOWN,
        notes=(note,),
    )
