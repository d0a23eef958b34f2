"""Combination, resolution, residual, error bars and false structure, against what is known to be true."""

import numpy as np
import pytest
import torch

from quietbeam.benchmarks.phantoms import PHANTOMS, expose
from quietbeam.denoiser.checks.false_structure import false_structure
from quietbeam.denoiser.checks.line_checks import check_line, local_chi2
from quietbeam.denoiser.checks.resolution import resolution
from quietbeam.denoiser.data.area_noise import NoiseModel
from quietbeam.denoiser.data.counts import RunCounts
from quietbeam.denoiser.data.sums import Sums
from quietbeam.denoiser.evaluation.combination import best_weights, combine, cross_errors
from quietbeam.denoiser.evaluation.risk import Fold, raw_error, windows

torch.set_num_threads(1)
ONES = np.ones((64, 64), np.float32)


def fold_of(rate: np.ndarray, seed: int = 0, share: float = 0.25) -> Fold:
    """Return seen and held-out Poisson counts of one line's rate (row, col)."""
    rng = np.random.default_rng(seed)
    ones = np.ones((1, *rate.shape), np.float32)
    seen = Sums(rng.poisson(rate[None] * (1 - share)).astype(np.float32), ones * (1 - share))
    return Fold(seen, Sums(rng.poisson(rate[None] * share).astype(np.float32), ones * share))


def test_weights_are_those_of_least_risk() -> None:
    """Two independent unbiased estimates of variance 1 and 3 go together as 3 to 1; a biased one is left out."""
    q = np.diag([1.0, 3.0, 50.0])
    np.testing.assert_allclose(best_weights(q), [0.75, 0.25, 0.0], atol=1e-9)
    # never outside the simplex: a copy with more noise gets nothing
    np.testing.assert_allclose(best_weights(np.array([[1.0, 1.0], [1.0, 2.0]])), [1.0, 0.0])
    # held-out noise moves all errors alike, below 0 too, and the weights stay
    np.testing.assert_allclose(best_weights(q - 2.0), [0.75, 0.25, 0.0], atol=1e-9)
    np.testing.assert_array_equal(best_weights(np.ones((2, 2))), [1.0, 0.0])  # twice the same


def test_a_combination_beats_its_parts_and_its_gain_is_honest() -> None:
    r, c = np.mgrid[0:96, 0:96]
    true = 6 + 3 * np.sin(r / 4) * np.cos(c / 5)
    honest, actual, single = [], [], []
    for seed in range(6):
        fold = fold_of(true, seed)
        rng = np.random.default_rng([seed, 1])
        wrong = rng.normal(0, [[[0.6]], [[0.8]]], (2, 96, 96))  # two estimates whose errors have nothing in common
        rates = {"raw": fold.seen.rate, "one": (true + wrong[0])[None], "other": (true + wrong[1])[None]}
        raw = raw_error(fold, NoiseModel.poisson(1), "counts", 8)
        weights, errors = combine(cross_errors(fold, rates, raw, "counts", 8), 12)
        mixed = sum(w * rate for w, rate in zip(weights[0], rates.values(), strict=True))
        honest.append(errors.sum() / 96**2 / 0.25**2)
        actual.append(((mixed - true) ** 2).mean())
        single.append(min(((rate - true) ** 2).mean() for rate in rates.values()))
    assert np.mean(actual) < 0.9 * np.mean(single)
    assert np.mean(honest) == pytest.approx(np.mean(actual), abs=3 * np.std(honest) / 6**0.5 + 0.02)


def test_local_chi_square_shows_where_a_map_erased_and_invented_something() -> None:
    true = np.full((64, 64), 12.0)
    true[20:24, 20:24] *= 2  # the map below misses this
    fold = fold_of(true, share=0.5)
    rate = np.full((1, 64, 64), 12.0, np.float32)
    rate[0, 40:44, 40:44] *= 2  # and invents that
    chi2 = local_chi2(fold.seen, rate, rate * fold.seen.exposure)[0]
    assert chi2[21, 21] > 20 and chi2[41, 41] > 20
    elsewhere = np.ones((64, 64), bool)
    for start in (20, 40):
        elsewhere[start - 3 : start + 7, start - 3 : start + 7] = False
    assert chi2[elsewhere].mean() == pytest.approx(1.0, abs=0.15)


def test_resolution_of_a_blurred_map_is_worse_and_noise_has_none() -> None:
    from scipy import ndimage

    rng = np.random.default_rng(0)
    true = ndimage.gaussian_filter(rng.standard_normal((96, 96)), 1.0) * 40 + 60
    a, b = rng.poisson(true), rng.poisson(true)
    fine, half_bit = resolution(a.astype(float), b.astype(float))
    # structure that is gone cannot come back: every second pixel of noise-free coarse structure
    coarse = ndimage.gaussian_filter(rng.standard_normal((96, 96)), 6.0) * 400 + 60
    rough, _ = resolution(rng.poisson(coarse.clip(1)).astype(float), rng.poisson(coarse.clip(1)).astype(float))
    assert fine < half_bit * 1.01 and fine < 5
    assert rough > 2 * fine
    noise, _ = resolution(rng.poisson(ONES * 9).astype(float), rng.poisson(ONES * 9).astype(float))
    assert noise is None or noise > 10
    assert resolution(ONES[:8], ONES[:8]) == (None, None)


def test_an_erased_spot_is_found_and_a_right_map_is_not_accused() -> None:
    true = np.full((64, 64), 20.0)
    true[30:33, 40:43] = 60.0
    accused = 0
    for seed in range(20):
        fold = fold_of(true, seed)
        seen, held = (Sums(s.counts[0], s.exposure[0]) for s in (fold.seen, fold.held))
        right = check_line(seen, held, true.astype(np.float32), ONES * 0.1, 1.0, 0.0, published_raw=False)
        accused += right.residual_p < 0.05
        assert right.total_ratio == pytest.approx(1, abs=0.02)
        assert right.coverage_68 == pytest.approx(0.68, abs=0.04)
    assert accused <= 3
    wrong = check_line(seen, held, ONES * 20.1, ONES * 0.1, 1.0, 0.0, published_raw=False)
    assert wrong.residual_p < 1e-4
    assert abs(wrong.residual_worst[0] - 31) <= 3 and abs(wrong.residual_worst[1] - 41) <= 3


def test_false_structure_is_that_of_the_estimate() -> None:
    rng = np.random.default_rng(0)
    sums = Sums(rng.poisson(5.0, (3, 64, 64)).astype(np.float32), np.ones((3, 64, 64), np.float32))
    np.testing.assert_allclose(false_structure(lambda s: s.rate, sums, 0), 1.0, rtol=0.05)
    flat = false_structure(lambda s: np.broadcast_to(s.level[:, None, None], s.counts.shape), sums, 0)
    np.testing.assert_array_equal(flat, 0.0)
    # what leaks from the neighbour is in the figure
    strong = Sums(np.stack([sums.counts[0], sums.counts[1] * (1 + np.indices((64, 64))[0] % 2)]), sums.exposure[:2])
    leak = false_structure(lambda s: 0 * s.rate + s.rate[::-1], strong, 0)
    assert leak[0] > 1.2


def test_large_maps_are_judged_on_squares_within_what_is_measured() -> None:
    lines, shape = [f"L{i}" for i in range(8)], (700, 900)
    data = RunCounts(lines, ["d"], shape, "counts", 0)
    data.measured[:500] = True
    found = windows(data)
    assert len(found) == 4
    for (top, bottom), (left, right) in found:
        assert 0 <= top < bottom <= 500 and 0 <= left < right <= 900
        assert bottom - top >= 100 and right - left >= 100
    assert len({w[1] for w in found}) == 4
    small = RunCounts(lines, ["d"], (100, 90), "counts", 0)
    small.measured[:7] = True
    assert windows(small) == [((0, 7), (0, 90))]


def test_a_large_map_is_published_from_the_network(monkeypatch) -> None:
    """The windows of a large map give the network the context that it needs to win."""
    from quietbeam.denoiser.evaluation import risk
    from quietbeam.denoiser.options import SessionOptions
    from quietbeam.denoiser.session import DenoiseSession

    monkeypatch.setattr(risk, "LINE_PIXELS", 100_000)
    rng = np.random.default_rng(3)
    counts, true = expose(rng, np.tile(PHANTOMS["star"](rng, 128, 2), (1, 2, 4)), 4.0, 2)
    options = SessionOptions(device="cpu", threads=1, final_flips=1)
    session = DenoiseSession(lines=["a", "b"], detectors=["x", "y"], shape=(256, 512), options=options)
    session.add_rows(0, counts, np.ones((256, 512), bool))
    update, evidence = session.finalize(0.0)
    assert evidence.lines[0].estimator in ("pretrained", "combined")
    gain = ((update.raw[0] - true[0]) ** 2).mean() / ((update.denoised[0] - true[0]) ** 2).mean()
    assert gain > 3 and evidence.lines[0].dwell_gain == pytest.approx(gain, rel=0.3)
