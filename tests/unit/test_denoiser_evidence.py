"""Evidence against truth: intervals that cover, gates that hold, gains that are right."""

import numpy as np
import pytest
import torch

from quietbeam.denoiser.data.area_noise import NoiseModel, measure_noise
from quietbeam.denoiser.data.counts import RunCounts
from quietbeam.denoiser.data.gains import estimate_gains
from quietbeam.denoiser.data.holdout import hold_out, split_evenly
from quietbeam.denoiser.data.sums import Sums
from quietbeam.denoiser.estimators.nonlocal_means import (
    MAX_LEVELS,
    VARIANTS,
    average_levels,
    every_variant,
    one_variant,
)
from quietbeam.denoiser.estimators.smoother import smooth
from quietbeam.denoiser.evaluation.gate import choose, gain_interval
from quietbeam.denoiser.evaluation.risk import block_sums, count_folds, counting_variance, error, raw_error

torch.set_num_threads(1)


def poisson(rate: np.ndarray, gains, seed: int = 0) -> np.ndarray:
    gains = np.asarray(gains, float)
    return np.random.default_rng(seed).poisson(gains[:, None, None, None] / gains.sum() * rate)


def store(counts: np.ndarray, kind="counts") -> RunCounts:
    n_det, n_line, rows, cols = counts.shape
    data = RunCounts([f"L{j}" for j in range(n_line)], [f"d{k}" for k in range(n_det)], (rows, cols), kind, 0)
    data.add_rows(0, counts, np.ones((rows, cols), bool))
    return data


def test_gains_are_right_and_weak_lines_borrow() -> None:
    gains = np.array([1.28, 1.23, 0.69, 0.80])
    rate = np.stack([np.full((60, 60), 50.0), np.full((60, 60), 0.005)])
    found = estimate_gains(poisson(rate, gains), np.ones((4, 60, 60)), list("abcd"))
    np.testing.assert_allclose(found.values[:, 0], gains / gains.sum(), rtol=0.01)
    np.testing.assert_allclose(found.values[:, 1], gains / gains.sum(), rtol=0.1)
    assert found.included.all() and not any(found.reasons)
    assert np.nanmax(np.abs(found.scatter[:, 0] - 1)) < 0.25


def test_a_noisy_detector_is_excluded_with_its_reason() -> None:
    counts = poisson(np.full((1, 60, 60), 100.0), np.ones(4))
    counts[2] = np.random.default_rng(3).poisson(25 * np.random.default_rng(4).gamma(4, 0.25, (1, 60, 60)))
    found = estimate_gains(counts, np.ones((4, 60, 60)), list("abcd"))
    assert "noisy" in found.reasons[0]["c"] and found.included[:, 0].tolist() == [True, True, False, True]


def test_smooth_gain_fields_are_measured_not_excluded() -> None:
    ramp = 1 + 0.3 * np.linspace(-1, 1, 50)[None, None, :]
    rate = np.full((2, 50, 50), 200.0)
    counts = np.random.default_rng(0).poisson(np.stack([rate / 2 * ramp, rate / 2 / ramp]))
    found = estimate_gains(counts, np.ones((2, 50, 50)), ["a", "b"])
    assert found.included.all()
    assert found.drift[0] == pytest.approx(0.17, abs=0.04)


def test_every_kind_of_bad_detector_is_found_in_the_lines_where_it_is_bad() -> None:
    """Dead, shadowed, far too noisy, drifting by 16 %, and a window beside its peak: each named, the others kept."""
    rng = np.random.default_rng(1)
    rate = np.stack([np.full((50, 50), level) for level in (60.0, 90.0, 30.0, 120.0)])
    gains = np.array([1.2, 1.0, 0.8, 1.1, 0.9, 1.0, 1.05])
    expected = gains[:, None, None, None] / gains.sum() * 7 * rate
    expected[1] *= 0.02  # shadowed
    expected[2] = rng.gamma(2.0, expected[2] / 2.0)  # noisy: variance far above counting
    expected[3] *= 1 + 0.16 * np.sqrt(2) * np.sin(np.arange(50) / 7.96)  # drifting, smoothly
    expected[4, 1] *= 0.33  # a third of one line: its window sits beside the peak
    counts = rng.poisson(expected)
    counts[0] = 0  # dead
    found = estimate_gains(counts, np.ones((7, 50, 50)), list("abcdefg"))
    for j in range(4):
        for name, reason in zip("abc", ("dead", "shadowed", "noisy"), strict=True):
            assert reason in found.reasons[j][name]
        assert not {"d", "f", "g"} & set(found.reasons[j])
    assert [("e" in reasons) for reasons in found.reasons] == [False, True, False, False]
    assert "calibration" in found.reasons[1]["e"]
    # against a sum of which it is a fifth itself
    assert found.drift[3] == pytest.approx(0.8 * 0.16, abs=0.03) and max(found.drift[5:]) < 0.06


@pytest.mark.parametrize("hot", [13, 25, 100, 1000])
@pytest.mark.parametrize("detectors", [3, 4, 5, 8])
def test_one_hot_detector_is_left_out_not_the_others(detectors: int, hot: float) -> None:
    rng = np.random.default_rng(detectors)
    counts = rng.poisson(
        np.where(np.arange(detectors) == 1, 2.0 * hot, 2.0)[:, None, None, None], (detectors, 2, 32, 32)
    )
    found = estimate_gains(counts, np.ones((detectors, 32, 32)), [str(k) for k in range(detectors)])
    for reasons in found.reasons:
        assert list(reasons) == ["1"] and "runaway" in reasons["1"]


def test_two_dead_of_four_and_two_shadowed_of_four_are_left_out() -> None:
    for low, reason in ((0.0, "dead"), (0.02, "shadowed")):
        counts = np.random.default_rng(0).poisson(
            np.array([20, 20, 20 * low, 18 * low])[:, None, None, None], (4, 1, 32, 32)
        )
        found = estimate_gains(counts, np.ones((4, 32, 32)), list("abcd"))
        assert list(found.reasons[0]) == ["c", "d"] and all(reason in why for why in found.reasons[0].values())


@pytest.mark.parametrize("height", [300, 65535, 2**32 - 1])
def test_what_one_detector_alone_saw_in_a_pixel_is_not_taken(height: int) -> None:
    """A glitch costs one pixel of one detector; what all detectors see, however bright and small, stays."""
    rate = np.full((2, 32, 32), 8.0)
    rate[1, 20, 20] = 5000
    counts = poisson(rate, np.ones(4))
    clean = store(counts)
    bad = counts.copy()
    bad[0, :, 5, 5] = height
    data = store(bad)
    assert data.gains.included.all() and data.glitches.tolist() == [2, 0, 0, 0]
    np.testing.assert_allclose(data.gains.values, clean.gains.values, atol=0.01)
    found = data.sums("all")
    assert found.rate[0, 5, 5] < 30 and found.exposure[0, 5, 5] == pytest.approx(0.75, abs=0.03)
    assert found.counts[1, 20, 20] == counts[:, 1, 20, 20].sum() and clean.glitches.sum() == 0
    two = store(bad[:2])
    assert two.gains is not None and two.glitches.sum() == 0  # nobody can say which of two is wrong


def test_noise_of_areas_without_signal_is_nobodys_fault() -> None:
    """Areas of a line that is not there sum up to next to nothing or less: no detector is dead for that."""
    for scale in (1.0, 100.0, 1e-9):
        areas = scale * np.random.default_rng(0).normal(0, 1, (4, 12, 48, 48))
        data = store(areas, "areas")
        assert data.gains.included.all()
        assert (data.gains.values > 0.1).all()
        sigma = data.sums("all").rate.mean((1, 2)) * data.unit / (scale * 2 / 48)
        assert np.abs(sigma).max() < 3.5


def test_counting_noise_alone_is_no_drift() -> None:
    for shape, detectors, level in (((24, 24), 4, 5.0), ((64, 64), 7, 2.0), ((8, 400), 4, 2.0)):
        for seed in range(8):
            counts = np.random.default_rng(seed).poisson(level, (detectors, 3, *shape))
            assert store(counts).gains.drift.max() < 0.04


def test_live_time_of_nothing_is_no_exposure() -> None:
    data = RunCounts(["a"], ["x", "y"], (4, 4), "counts", 0)
    live = np.ones((2, 4, 4))
    live[1] = 0
    data.add_rows(0, np.full((2, 1, 4, 4), 3), np.ones((4, 4), bool), live_time_s=live)
    assert data.gains.reasons[0] == {"y": "no exposure"}


def test_thinning_is_the_same_for_ever_and_exact() -> None:
    counts = np.random.default_rng(0).poisson(5, (2, 3, 40)).astype(float)
    a, b = hold_out(counts, 0.25, 7, 3), hold_out(counts, 0.25, 7, 3)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, hold_out(counts, 0.25, 7, 4))
    assert not np.array_equal(a, hold_out(counts, 0.25, 8, 3))
    assert (a <= counts).all()
    parts = split_evenly(counts, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(sum(parts), counts)
    big = split_evenly(np.full((200, 200), 9.0), 3, np.random.default_rng(1))
    assert [p.mean() for p in big] == pytest.approx([3, 3, 3], rel=0.02)


def test_held_out_error_is_the_true_error() -> None:
    """Unbiased: mean over repeats agrees with the error against truth, for a deliberately wrong estimate."""
    true = np.full((1, 32, 32), 4.0)
    rate = np.broadcast_to(4.0 + np.linspace(-1.5, 1.5, 32)[None, None], true.shape).astype(np.float32)
    noise, ratio, raw_ratio = NoiseModel.poisson(1), [], []
    for seed in range(40):
        fold = next(count_folds(store(poisson(true, [1, 1, 1], seed)), folds=1))
        raw = raw_error(fold, noise, "counts", 8)
        ratio.append(error(fold, rate, raw, "counts", 8).sum() / 32**2 / 0.25**2)
        raw_ratio.append(raw.sum() / 32**2 / 0.25**2)
    assert np.mean(ratio) == pytest.approx(((rate - true) ** 2).mean(), abs=4 * np.std(ratio) / 40**0.5)
    assert np.mean(raw_ratio) == pytest.approx(4.0 / 0.75, rel=0.02)


def test_gain_interval_covers_the_truth() -> None:
    """The 95 % interval of a smoother's dwell gain covers the true one in at least 90 % of simulations."""
    r, c = np.mgrid[0:64, 0:64]
    rate = (3 + 2 * np.sin(r / 5) * np.cos(c / 6))[None]
    hits, noise = 0, NoiseModel.poisson(1)
    for seed in range(40):
        data = store(poisson(rate, [1, 1.2], seed))
        chosen, raw, true_error, true_raw = 0.0, 0.0, 0.0, 0.0
        for fold in count_folds(data, seed=seed):
            estimate = smooth(fold.seen.counts[0], fold.seen.exposure[0], 1.6)[None]
            piece = raw_error(fold, noise, "counts", 8)
            raw = raw + piece[0]
            chosen = chosen + error(fold, estimate, piece, "counts", 8)[0]
            true_error += ((estimate - rate) ** 2).mean()
            true_raw += ((fold.seen.rate - rate) ** 2).mean()
        _, low, high = gain_interval(raw, chosen, seed)
        hits += low <= true_raw / true_error <= (high or np.inf)
    assert hits >= 36


def test_the_gate_takes_raw_unless_something_is_proven_better() -> None:
    rng = np.random.default_rng(0)
    raw = np.full(64, 10.0)
    assert choose({"raw": raw, "pretrained": raw + rng.normal(0, 1, 64) + 2}).estimator == "raw"
    assert choose({"raw": raw, "pretrained": raw - 0.01 + rng.normal(0, 5, 64)}).estimator == "raw"
    assert choose({"raw": raw, "pretrained": rng.normal(3, 1, 64)}).estimator == "pretrained"
    flat = {"raw": raw, "pretrained": rng.normal(1, 1, 64), "constant": rng.normal(1, 1, 64)}
    assert choose(flat).constant
    assert not choose({**flat, "constant": np.full(64, 6.0)}).constant
    assert choose({"raw": np.zeros(5)}).estimator == "raw"


def test_a_verdict_says_whether_anything_was_tested() -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(10, 1, 64)
    better = choose({"raw": raw, "pretrained": rng.normal(3, 1, 64)})
    assert (better.estimator, better.verdict) == ("pretrained", "improved")
    worse = choose({"raw": raw, "pretrained": raw + rng.normal(0, 1, 64) + 2})
    assert (worse.estimator, worse.verdict) == ("raw", "kept_raw")
    few = choose({"raw": raw[:3], "pretrained": raw[:3] / 9})
    assert (few.estimator, few.verdict) == ("raw", "not_tested") and "fewer than 4 blocks" in few.reason
    nothing = choose({"raw": np.zeros(64), "pretrained": np.zeros(64)})
    assert (nothing.estimator, nothing.verdict) == ("raw", "not_tested") and nothing.reason.endswith(".")


def test_unresolved_gains_have_no_upper_end() -> None:
    rng = np.random.default_rng(0)
    gain, low, high = gain_interval(np.full(100, 10.0), rng.normal(-0.2, 6, 100), 0)
    assert high is None and low > 1 and low <= gain < 1000


def test_counting_noise_that_no_pixel_shows_is_in_the_interval() -> None:
    """At 0.02 counts no pixel has two held-out counts: all blocks look alike, and yet nothing is known so well."""
    wide = gain_interval(np.full(100, 10.0), np.full(100, 0.05), 0, counting=1000.0)
    assert gain_interval(np.full(100, 10.0), np.full(100, 0.05), 0)[1] > 100 and 5 < wide[1] < 20 and wide[2] is None
    true, held = np.full((1, 64, 64), 0.3), []
    for seed in range(200):
        fold = next(count_folds(store(poisson(true, [1, 1], seed)), folds=1))
        held.append(((fold.held.exposure * 0.3 - fold.held.counts) ** 2 - fold.held.counts).sum())
    assert counting_variance(fold)[0] == pytest.approx(np.var(held), rel=0.3)


def test_places_that_are_alike_are_averaged() -> None:
    """A pattern that returns is restored from its own copies; gaps add nothing; maps may be smaller than the reach."""
    true = np.where(np.add.outer(np.arange(40), np.arange(40)) % 2, 40.0, 8.0)[None]
    counts = np.random.default_rng(0).poisson(true).astype(np.float32)
    exposure = np.ones_like(counts)
    counts[:, 10:13, 5] = exposure[:, 10:13, 5] = 0
    sums, noise = Sums(counts, exposure), NoiseModel.poisson(1)
    lit = exposure > 0
    raw = ((sums.rate - true)[lit] ** 2).mean()
    rates = list(every_variant(sums, true.astype(np.float32), noise))
    assert len(rates) == len(VARIANTS) and all(np.isfinite(rate).all() for rate, _ in rates)
    gains = [raw / ((rate - true)[lit] ** 2).mean() for rate, _ in rates]

    def best(guided: bool, patch: int) -> float:
        return max(g for v, g in zip(VARIANTS, gains, strict=True) if (v.guided, v.patch) == (guided, patch))

    assert best(True, 3) > 30 and best(True, 1) > 150  # two levels: each is known from half of the map
    assert best(False, 5) > 5  # found in the noise itself
    for i in range(len(VARIANTS)):
        for one, every in zip(one_variant(sums, true.astype(np.float32), noise, i, 0), rates[i], strict=True):
            np.testing.assert_allclose(one, every[0], rtol=1e-5)
    # of a flat map every place in reach is alike: what an average stands on is their number
    flat = np.ones((1, 64, 64), np.float32)
    for variant, (_, stands_on) in zip(VARIANTS, every_variant(Sums(flat, flat), flat, noise), strict=True):
        places = 64**2 if variant.reach is None else min(2 * variant.reach + 1, 64) ** 2
        assert stands_on[0, 32, 32] == pytest.approx(places, rel=1e-3)
    for shape in ((1, 8), (8, 1), (3, 3)):
        small = Sums(counts[:, : shape[0], : shape[1]], exposure[:, : shape[0], : shape[1]])
        assert all(np.isfinite(rate).all() for rate, _ in every_variant(small, small.rate, noise))


def test_levels_are_averaged_where_the_guide_has_them() -> None:
    """Near levels stay apart, a slope keeps its mean, and the grid is never finer than memory and time allow."""
    rng = np.random.default_rng(1)
    true = np.where(np.arange(64) < 32, 100.0, 140.0) * np.ones((64, 1))
    counts, one = rng.poisson(true).astype(np.float32), np.ones((64, 64), np.float32)
    guide = (2 * np.sqrt(true)).astype(np.float32) + 0.2 * rng.standard_normal((64, 64)).astype(np.float32)
    (sharp, _), (wide, _) = average_levels(counts, one, guide, None, [1.6, 50.0])
    assert ((sharp - true) ** 2).mean() < 0.03 * true.mean()
    assert ((wide - true) ** 2).mean() > true.mean()  # a strength that mixes the levels
    assert sharp.sum() == pytest.approx(counts.sum(), rel=0.01)
    # 1e6 sigma of range: no more than MAX_LEVELS passes
    looks = []
    average_levels(counts, one, guide * 1e5, 7, [0.8, 1.6], lambda: looks.append(1))
    assert len(looks) <= MAX_LEVELS + 2


@pytest.mark.parametrize("careful", ["nonlocal", "combined"])
def test_non_local_means_and_the_combination_must_be_measurably_better(careful: str) -> None:
    """Variant and weights are chosen by the held-out photons' noise: a little less error by chance is not enough."""
    rng = np.random.default_rng(0)
    raw, best = np.full(200, 10.0), 2.0 + 0.5 * rng.standard_normal(200)
    for gained, chosen in ((0.01, "fine_tuned"), (0.4, careful)):
        other = best - gained + 0.5 * rng.standard_normal(200)
        other += best.mean() - gained - other.mean()
        assert choose({"raw": raw, "fine_tuned": best, "pretrained": best + 1, careful: other}).estimator == chosen
    assert choose({"raw": raw, careful: best}).estimator == "raw"


@pytest.mark.parametrize(("estimator", "constant"), [("pretrained", False), ("nonlocal", True), ("combined", True)])
def test_what_was_chosen_among_several_must_be_clearly_better_than_a_constant(estimator: str, constant: bool) -> None:
    """One and a half standard errors are structure in a network's map, and noise in the best of many."""
    noise = np.resize([1.0, -1.0], 200)
    raw, flat = np.full(200, 10.0), np.full(200, 2.0)
    errors = {"raw": raw, "smoother": flat, "constant": flat, estimator: flat - 1.5 / 200**0.5 + noise}
    choice = choose(errors)
    assert choice.constant == constant and choice.estimator == ("smoother" if constant else estimator)


def test_blocks_add_up() -> None:
    image = np.random.default_rng(0).random((2, 13, 9))
    np.testing.assert_allclose(block_sums(image, 4).sum(1), image.sum((1, 2)))


def test_noise_of_areas_is_measured() -> None:
    rng = np.random.default_rng(1)
    rate = np.broadcast_to(np.linspace(5, 400, 80)[None, :, None], (1, 80, 80))
    share = np.array([0.5, 0.3, 0.2])[:, None, None, None]
    areas = share * rate + rng.normal(0, np.sqrt(share * (5.0 * rate + 60)))
    data = store(areas, "areas")
    noise, unit = measure_noise(data), data.unit[0]
    assert unit * noise.factor[0] == pytest.approx(5, rel=0.15)
    assert unit**2 * noise.constant[0] == pytest.approx(60, rel=0.8)


def shaded(seed: int, kind: str = "counts", level: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of two detectors, of which relief shades one from left to right, and the rate of their sum."""
    r, c = np.mgrid[0:64, 0:64]
    rate = level * np.stack([1 + 0.5 * np.sin(r / 5), 1 + 0.5 * np.cos(c / 7), np.ones((64, 64))])
    tilt = 0.3 * (c / 31.5 - 1)
    expected = np.stack([0.5 * rate * (1 + tilt), 0.5 * rate * (1 - tilt)])
    rng = np.random.default_rng(seed)
    counts = rng.poisson(expected)
    return (counts if kind == "counts" else rng.normal(expected, np.sqrt(3 * expected))), rate


@pytest.mark.parametrize("kind", ["counts", "areas"])
def test_a_smooth_gain_field_is_modelled(kind) -> None:
    """Where one detector is missing, the other's sum has the exposure that the field gives it; else nothing moves."""
    counts, rate = shaded(0, kind)
    data = store(counts, kind)
    assert data.field is None and data.gains.included.all()
    tilt = 0.3 * (np.arange(64) / 31.5 - 1)
    inside = slice(8, 56)
    np.testing.assert_allclose(data.field[0, 32, inside], (1 + tilt)[inside], atol=0.06)
    np.testing.assert_allclose(data.sums("all").exposure, 1.0, rtol=1e-5)
    one = data.sums("all", detectors=np.array([True, False]))
    found = one.rate * data.unit[:, None, None]
    bias = found[:, :, inside].mean((0, 1)) / rate[:, :, inside].mean((0, 1)) - 1
    assert np.abs(bias).max() < 0.08 and np.abs(found.sum() / rate.sum() - 1) < 0.01


def test_even_detectors_have_no_field() -> None:
    data = store(poisson(np.full((3, 48, 48), 20.0), [1.0, 0.7, 1.3]))
    assert data.gains.included.all() and data.field is None


@pytest.mark.parametrize(("pixels", "rows"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.05)])
def test_common_mode_noise_is_measured(pixels: float, rows: float) -> None:
    from quietbeam.denoiser.checks.common_mode import common_mode

    rng = np.random.default_rng(2)
    r, c = np.mgrid[0:96, 0:96]
    rate = 400 * np.stack([1 + 0.6 * np.sin(r / 6) * np.cos(c / 9), 1 + 0.5 * np.cos(c / 7), 0.5 + (r + c) / 200])
    beam = (1 + rows * rng.standard_normal((96, 1))) * (1 + pixels * rng.standard_normal((96, 96)))
    found = common_mode(store(rng.poisson(rate * beam)[None]).sums("all"))
    assert found[0] == pytest.approx(pixels, abs=0.012) and found[1] == pytest.approx(rows, abs=0.012)


@pytest.mark.parametrize("detectors", [2, 4])
def test_the_error_of_raw_areas_is_measured_right(detectors: int) -> None:
    """Every dwell gain of fitted areas hangs on it; the fit must not be bent by the noise of the level itself."""
    from quietbeam.denoiser.evaluation.risk import area_folds

    rng = np.random.default_rng(5)
    r, c = np.mgrid[0:96, 0:96]
    true = 40 * np.stack([1 + 0.6 * np.sin(r / 6) * np.cos(c / 9), np.where((r // 16 + c // 16) % 2, 1.7, 0.3)])
    gains = np.linspace(0.7, 1.3, detectors)
    mean = (gains / gains.sum())[:, None, None, None] * true
    data = store(rng.normal(mean, np.sqrt(4 * mean + 2)), "areas")
    noise = measure_noise(data)
    true = true / data.unit[:, None, None]
    for fold in area_folds(data):
        measured = raw_error(fold, noise, "areas", 8).sum(1)
        actual = ((fold.held.exposure * (fold.seen.rate - true)) ** 2).sum((1, 2))
        np.testing.assert_allclose(measured, actual, rtol=0.15)


def test_counting_noise_alone_is_no_jitter() -> None:
    from quietbeam.denoiser.checks.common_mode import common_mode

    found = [
        common_mode(store(np.random.default_rng(seed).poisson(5.0, (1, 2, size, size))).sums("all"))[1]
        for seed in range(10)
        for size in (10, 16, 40)
    ]
    assert sum(value > 0 for value in found if value is not None) <= 2
