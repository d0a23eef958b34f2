"""Judge every estimate of a run on its held-out photons and write down what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.evidence import LineEvidence

from .areas import NoiseModel
from .counts import RunCounts, Sums
from .gate import Choice, choose, gain_interval
from .options import DenoiseOptions
from .risk import FOLDS, Blocks, Fold, area_folds, block_size, count_folds, error, raw_error
from .smoother import WIDTHS, smooth

Array = NDArray[np.float32]
Estimate = Callable[[str, Sums], Array]

LINE_PIXELS = 400_000
"""Larger maps are judged on three bands of rows of this size together."""
RESIDUAL_LIMIT = 1.6
SCATTER_LIMIT = 2.0
EXPOSURE_EXPONENT = 0.35
"""Dwell gain falls with exposure as ``exposure**-0.35`` (simulations: 0.23 to 0.45): carries a gain that was measured
at three quarters of the exposure over to the published map, which uses all counts. A constant keeps its gain."""


def calibrated(rate: Array, sums: Sums) -> tuple[Array, Array]:
    """Scale each line's rate to the total of its counts; return it with the factors (line,)."""
    total = sums.counts.sum((1, 2), dtype=np.float64)
    expected = (rate * sums.exposure).sum((1, 2), dtype=np.float64)
    scale = np.divide(total, expected, out=np.ones_like(total), where=(expected > 0) & (total > 0))
    scale = np.clip(scale, 0.5, 2.0).astype(np.float32)
    return rate * scale[:, None, None], scale


@dataclass(slots=True)
class Evaluation:
    """Result of :func:`evaluate`; see :class:`LineEvidence` for the meaning of the figures.

    Attributes
    ----------
    choices
        What is published, per line.
    widths
        Width of the smoother, per line; ``inf`` is a constant.
    errors
        Squared held-out error by estimator, (line, block).
    """

    choices: list[Choice]
    widths: list[float]
    errors: dict[str, Blocks]
    scales: dict[str, Array]
    seed: int
    totals: NDArray[np.floating]
    slopes: NDArray[np.floating]
    residual: NDArray[np.floating]
    structure: NDArray[np.floating]
    notes: list[str] = field(default_factory=list)

    def scale(self, name: str) -> Array:
        """Return the factors that give a network's maps the total of the counts, (line,)."""
        return self.scales.get(name, np.ones(len(self.choices), np.float32))

    def published(self, j: int) -> Blocks:
        """Return the error of what is published for line ``j``, (block,)."""
        choice = self.choices[j]
        return self.errors["constant" if choice.constant else choice.estimator][j]

    def error_share(self, j: int) -> float:
        """Return the published map's squared error over raw's, kept to a sane range."""
        raw = self.errors["raw"][j]
        if self.choices[j].estimator == "raw" or raw.sum() <= 0:
            return 1.0
        gain = gain_interval(raw, self.published(j), self.seed)[0]
        return float(np.clip(1.0 / gain, 1e-4, 1.0))

    def deviation(self, j: int, rate: Array, exposure: Array, noise: NoiseModel) -> Array:
        """Return one standard error of the published rate (row, col): raw's own, times the held-out error ratio."""
        floor = 0.1 * float(rate[exposure > 0].mean()) if (exposure > 0).any() else 0.0
        variance = noise.factor[j] * np.maximum(rate, floor) + noise.constant[j]
        variance = np.divide(variance, exposure, out=np.zeros_like(rate), where=exposure > 0)
        return np.sqrt(np.maximum(variance, 0) * self.error_share(j))

    def line_evidence(self, data: RunCounts) -> tuple[LineEvidence, ...]:
        """Return the figures of every line."""
        sums = data.sums("all")
        lit = np.maximum((sums.exposure > 0).sum((1, 2)), 1)
        mean = sums.rate.sum((1, 2)) / lit
        carry = _carry(data)
        out = []
        for j, (name, choice) in enumerate(zip(data.lines, self.choices, strict=True)):
            raw = self.errors["raw"][j]
            low: float | None
            if choice.estimator == "raw":
                gain, low, high = 1.0, None, None
            else:
                factor = 1.0 if choice.constant else carry
                gain, low, high = gain_interval(raw, self.published(j), self.seed)
                gain, low, high = gain * factor, low * factor, None if high is None else high * factor
            candidates = {
                key: round(carry * gain_interval(raw, value[j], self.seed)[0], 3)
                for key, value in self.errors.items()
                if key not in ("raw", "constant") and raw.sum() > 0
            }
            out.append(
                LineEvidence(
                    line=name,
                    estimator=choice.estimator,
                    proven=choice.proven,
                    dwell_gain=round(gain, 3),
                    dwell_gain_low=None if low is None else round(low, 3),
                    dwell_gain_high=None if high is None else round(high, 3),
                    candidates=candidates,
                    total_ratio=_finite(self.totals[j]),
                    slope=_finite(self.slopes[j]),
                    mean_counts=round(float(mean[j]), 5),
                    residual_chi2=_finite(self.residual[j]),
                    residual_flag=bool(self.structure[j] > RESIDUAL_LIMIT),
                    excluded_detectors=dict(data.gains.reasons[j]),
                )
            )
        return tuple(out)


def evaluate(
    data: RunCounts,
    noise: NoiseModel,
    estimate: Estimate,
    networks: Sequence[str],
    options: DenoiseOptions,
    seed: int,
    folds: int = FOLDS,
) -> Evaluation:
    """Judge raw, smoother and the named networks.

    What trained on this run (``fine_tuned``) is judged only on the fold that never trains; its error on the other
    folds is the pretrained network's plus the difference between the two on the first, which has far less variance.
    """
    bands = _bands(data)
    block = block_size((data.rows_measured, data.shape[1]), options.block)
    widths: list[float] = []
    pieces: list[_Judged] = []
    for band in bands:
        made = count_folds(data, band, folds, seed) if data.kind == "counts" else area_folds(data, band, folds)
        for index, fold in enumerate(made):
            pieces.append(_Judged(fold, index, {}, {}, {}))
            _judge(pieces[-1], noise, estimate, networks, data.kind, block)
    n = len(data.lines)
    if not pieces:
        return _nothing_held_out(n, seed, measured=bool(bands))
    every = {name for piece in pieces for name in piece.errors}
    widths = _widths(pieces, n)
    errors = {"raw": _total(pieces, "raw"), "constant": _total(pieces, str(np.inf))}
    smoothers = {str(w): _total(pieces, str(w)) for w in WIDTHS}
    errors["smoother"] = np.stack([smoothers[str(w)][j] for j, w in enumerate(widths)])
    for name in networks:
        if name in every:
            errors[name] = _total(pieces, name) if name != "fine_tuned" else _controlled(pieces, name, "pretrained")
    choices = []
    for j in range(n):
        choice = choose({key: value[j] for key, value in errors.items()}, _carry(data))
        choices.append(choice)
        if choice.constant:
            widths[j] = float("inf")
    result = Evaluation(
        choices=choices,
        widths=widths,
        errors=errors,
        scales={name: pieces[0].scales[name] for name in networks if name in pieces[0].scales},
        seed=seed,
        totals=np.full(n, np.nan),
        slopes=np.full(n, np.nan),
        residual=np.full(n, np.nan),
        structure=np.zeros(n),
        notes=_notes(data, choices),
    )
    _compare(result, [p for p in pieces if p.index == 0], noise)
    return result


@dataclass(slots=True)
class _Judged:
    fold: Fold
    index: int
    errors: dict[str, Blocks]
    rates: dict[str, Array]
    scales: dict[str, Array]


def _judge(
    piece: _Judged, noise: NoiseModel, estimate: Estimate, networks: Sequence[str], kind: str, block: int
) -> None:
    fold = piece.fold
    raw = raw_error(fold, noise, kind, block)
    piece.errors["raw"] = raw
    for name in networks:
        if name == "fine_tuned" and piece.index > 0:
            continue
        rate, piece.scales[name] = calibrated(estimate(name, fold.seen), fold.seen)
        piece.errors[name] = error(fold, rate, raw, kind, block)
        if piece.index == 0:
            piece.rates[name] = rate
    for width in WIDTHS:
        rate = np.stack([smooth(c, e, width) for c, e in zip(fold.seen.counts, fold.seen.exposure, strict=True)])
        piece.errors[str(width)] = error(fold, rate, raw, kind, block)
        if piece.index == 0:
            piece.rates[str(width)] = rate


def _total(pieces: list[_Judged], name: str) -> Blocks:
    """Sum a candidate's errors over folds; bands stand side by side."""
    bands: list[Blocks] = []
    for piece in pieces:
        if piece.index == 0:
            bands.append(piece.errors[name].copy())
        else:
            bands[-1] += piece.errors[name]
    return np.concatenate(bands, 1)


def _controlled(pieces: list[_Judged], name: str, control: str) -> Blocks:
    """Return the error over all folds of what may be judged on the first only.

    The control's error on the other folds stands in, by the share to which the two errors go together block by block
    (a control variate); not at all where the control itself is worse than raw.
    """
    folds = max(p.index for p in pieces) + 1
    first = [p for p in pieces if p.index == 0]
    own, beside, raw = (np.concatenate([p.errors[key] for p in first], 1) for key in (name, control, "raw"))
    a, b = own - own.mean(1, keepdims=True), beside - beside.mean(1, keepdims=True)
    share = np.clip((a * b).sum(1) / np.maximum((b * b).sum(1), 1e-12), 0, 1) * (beside.sum(1) < raw.sum(1))
    return folds * own + share[:, None] * (_total(pieces, control) - folds * beside)


def _carry(data: RunCounts) -> float:
    """Return what a dwell gain measured on the training share is worth with all counts."""
    return float((1.0 - data.share) ** EXPOSURE_EXPONENT) if data.kind == "counts" else 1.0


def _widths(pieces: list[_Judged], n: int) -> list[float]:
    totals = np.stack([_total(pieces, str(w)).sum(1) for w in WIDTHS])
    return [float(WIDTHS[i]) for i in totals.argmin(0)[:n]]


def _compare(result: Evaluation, first: list[_Judged], noise: NoiseModel) -> None:
    """Total, slope and residual of the published estimate on the fold that never trains."""
    for j, choice in enumerate(result.choices):
        key = str(result.widths[j]) if choice.estimator == "smoother" else choice.estimator
        sums = np.zeros(6)
        chi: list[Array] = []
        coarse: list[Array] = []
        for piece in first:
            seen, held = piece.fold.seen, piece.fold.held
            used = (held.exposure[j] > 0) & (seen.exposure[j] > 0)
            rate = seen.rate[j] if key == "raw" else piece.rates[key][j]
            m, h = (rate * held.exposure[j])[used].astype(np.float64), held.counts[j][used].astype(np.float64)
            sums += [m.size, m.sum(), h.sum(), (m * m).sum(), (m * h).sum(), (h * h).sum()]
            expected = rate * seen.exposure[j]
            spread = np.sqrt(np.maximum(noise.factor[j] * expected + noise.constant[j] * seen.exposure[j], 1e-6))
            z = np.where(used, (seen.counts[j] - expected) / spread, 0)
            chi.append(z[used] ** 2)
            heavy = ndimage.uniform_filter(np.where(used, seen.counts[j] - expected, 0).astype(np.float64), 5)
            weight = ndimage.uniform_filter(np.where(used, spread**2, 0).astype(np.float64), 5)
            ok = used & (weight > 1.0)
            coarse.append((25 * heavy[ok] ** 2 / weight[ok]).astype(np.float32))
        n, sm, sh, smm, smh, _ = sums
        if n < 1:
            continue
        result.totals[j] = sm / sh if sh > 0 else np.nan
        spread_m = smm - sm * sm / n
        if spread_m > 1e-3 * max(smm, 1e-12) and sh > 50:
            result.slopes[j] = (smh - sm * sh / n) / spread_m
        if choice.estimator != "raw":
            values, boxes = np.concatenate(chi), np.concatenate(coarse)
            result.residual[j] = float(values.mean()) if values.size else np.nan
            result.structure[j] = float(boxes.mean()) if boxes.size > 50 else 0.0


def _bands(data: RunCounts) -> list[tuple[int, int]]:
    """Return the bands of rows that are judged: all measured rows, or three bands of a large map."""
    rows = np.flatnonzero(data.measured.any(1))
    if rows.size == 0:
        return []
    first, stop = int(rows[0]), int(rows[-1]) + 1
    height = max(16, LINE_PIXELS // (3 * len(data.lines) * data.shape[1]))
    if stop - first <= 3 * height:
        return [(first, stop)]
    starts = np.linspace(first, stop - height, 3).astype(int)
    return [(int(s), int(s) + height) for s in starts]


def _nothing_held_out(n: int, seed: int, *, measured: bool) -> Evaluation:
    why = "one detector of fitted areas: nothing can be held out, so the raw map is shown"
    empty = np.full(n, np.nan)
    return Evaluation(
        choices=[Choice("raw", proven=True)] * n,
        widths=[float("inf")] * n,
        errors={"raw": np.zeros((n, 1))},
        scales={},
        seed=seed,
        totals=empty,
        slopes=empty.copy(),
        residual=empty.copy(),
        structure=np.zeros(n),
        notes=[why if measured else "nothing is measured yet"],
    )


def _notes(data: RunCounts, choices: list[Choice]) -> list[str]:
    """Sentences about what people should know."""
    notes = []
    excluded: dict[str, int] = {}
    for reasons in data.gains.reasons:
        for detector in reasons:
            excluded[detector] = excluded.get(detector, 0) + 1
    notes += [f"detector {name} is left out for {count} of {len(data.lines)} lines" for name, count in excluded.items()]
    for name, drift in zip(data.detectors, data.gains.drift, strict=True):
        if drift > 0.04:
            notes.append(
                f"detector {name} differs smoothly from the others by {100 * drift:.0f} % over the map "
                "(rough specimen or drift); the published map is that of the detectors' sum"
            )
    scatter = np.where(data.gains.included, data.gains.scatter, np.nan)
    if data.kind == "counts" and np.isfinite(scatter).any():
        worst = np.nanmax(np.nan_to_num(scatter, nan=0.0), axis=0)
        loud = [f"{n} ({w:.1f})" for n, w in zip(data.lines, worst, strict=True) if w > SCATTER_LIMIT]
        if loud:
            notes.append(
                "detectors differ from pixel to pixel by more than counting noise (variance ratio): " + ", ".join(loud)
            )
    raw = [n for n, c in zip(data.lines, choices, strict=True) if c.estimator == "raw"]
    if raw:
        notes.append("no estimate is proven better than the raw sum for " + ", ".join(raw))
    return notes


def _finite(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
