"""A session: live equals offline, held-out photons stay out, nothing is invented, everything stays finite."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from denoiser_kit import GAINS, OPTIONS, draw, session_of, specimen

import quietbeam
from quietbeam.core.errors import WeightsError
from quietbeam.denoiser.checks.hot_pixels import beyond_counting
from quietbeam.denoiser.data.holdout import HELD_OUT_SHARE
from quietbeam.denoiser.estimators import device, networks
from quietbeam.denoiser.learning.finetune import BurstPlan, FineTuning
from quietbeam.denoiser.learning.pairs import ThinnedPairs
from quietbeam.denoiser.options import DenoiseOptions, SessionOptions
from quietbeam.denoiser.session import DenoiseSession

pytestmark = pytest.mark.usefixtures("one_thread")


def test_published_maps_beat_raw_and_keep_totals() -> None:
    true = specimen() * 6
    session = session_of(draw(true))
    update, evidence = session.finalize(0.0)
    for j, line in enumerate(evidence.lines):
        assert ((update.raw[j] - true[j]) ** 2).mean() > 3 * ((update.denoised[j] - true[j]) ** 2).mean()
        assert update.denoised[j].sum() == pytest.approx(update.raw[j].sum(), rel=0.01)
        assert line.estimator != "raw" and line.improved
        assert line.dwell_gain > 1.5
        assert line.total_ratio == pytest.approx(1, abs=0.1)
    assert evidence.final and evidence.rows == 40
    # the line without structure comes out constant
    assert evidence.lines[2].estimator == "smoother"
    assert np.ptp(update.denoised[2]) < 1e-3


def test_rows_added_live_equal_all_at_once() -> None:
    counts = draw(specimen() * 4)
    whole = session_of(counts)
    live = DenoiseSession(lines=whole.data.lines, detectors=whole.data.detectors, shape=(40, 40), options=OPTIONS)
    wrong = counts[:, :, 5:6] + 9
    live.add_rows(5, wrong, np.ones((1, 40), bool))  # to be replaced: the same row comes again
    for row in [*range(10, 40), *range(10)]:
        live.add_rows(row, counts[:, :, row : row + 1], np.ones((1, 40), bool))
        if row in (13, 30):
            live.infer((row, row + 1))
    np.testing.assert_array_equal(live.data.held, whole.data.held)
    assert live.evaluate() == whole.evaluate()
    a, b = live.infer(), whole.infer()
    np.testing.assert_array_equal(a.denoised, b.denoised)
    np.testing.assert_array_equal(a.raw, counts.sum(0))


def test_a_strip_is_nearly_the_whole_map() -> None:
    session = session_of(draw(specimen(64) * 4))
    session.evaluate()
    whole, strip = session.infer(), session.infer((40, 41))
    assert strip.rows[0] <= 40 < strip.rows[1] and strip.rows[1] - strip.rows[0] < 32
    rows = slice(*strip.rows)
    np.testing.assert_array_equal(strip.raw, whole.raw[:, rows])
    error = (strip.denoised - whole.denoised[:, rows]) / np.sqrt(whole.denoised[:, rows] + 0.1)
    assert np.sqrt((error**2).mean()) < 0.25


def test_the_first_rows_give_a_denoised_map() -> None:
    counts = draw(specimen() * 4)
    session = DenoiseSession(lines=list("abc"), detectors=list("wxyz"), shape=(40, 40), options=OPTIONS)
    session.add_rows(16, counts[:, :, 16:24], np.ones((8, 40), bool))
    update = session.infer((16, 24))
    inside = slice(16 - update.rows[0], 24 - update.rows[0])
    assert not np.array_equal(update.raw[:, inside], update.denoised[:, inside])
    assert not update.denoised[:, : inside.start].any()


def test_held_out_counts_never_train() -> None:
    """Changing only the held-out counts changes nothing that fine-tuning sees."""
    a, b = session_of(draw(specimen() * 4)), session_of(draw(specimen() * 4))
    b.data.counts += 3 * (b.data.held + 1)
    b.data.held += 3 * (b.data.held + 1)
    np.testing.assert_array_equal(a.data.sums("train").counts, b.data.sums("train").counts)
    assert not np.array_equal(a.data.sums("all").counts, b.data.sums("all").counts)
    train, held = a.data.sums("train"), a.data.sums("held")
    np.testing.assert_array_equal(train.counts + held.counts, a.data.sums("all").counts)
    # independent: no correlation between the two parts of a flat line, and the right share
    x, h = train.counts[2].ravel(), held.counts[2].ravel()
    assert abs(np.corrcoef(x, h)[0, 1]) < 4 / np.sqrt(x.size)
    assert h.sum() / (x.sum() + h.sum()) == pytest.approx(HELD_OUT_SHARE, abs=0.03)


def test_fine_tuning_is_deterministic_interruptible_and_keeps_its_state() -> None:
    states = []
    for _ in range(2):
        session = session_of(draw(specimen() * 3))
        calls = iter([False, False, False, True])  # asked once before the first step, then after each
        assert session.fine_tune(60.0, interrupt=lambda calls=calls: next(calls)) == 3
        states.append(session._tuning.average.head.weight.clone())
        assert session._tuning._optimizer.state
    torch.testing.assert_close(states[0], states[1])
    assert not torch.equal(states[0], session._base.head.weight)
    assert session.fine_tune(0.0) == 0
    assert session.fine_tune(10.0, interrupt=lambda: True) == 0
    evidence = session.evaluate()
    assert evidence.fine_tune_steps == 3
    assert "fine_tuned" in evidence.lines[0].candidates


@pytest.mark.parametrize("work", ["evaluate", "fine_tune", "infer"])
def test_rows_that_wait_are_served_within_a_pass_of_the_network(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New rows come in between two convolutions, their maps go out, and the work that gave way ends as it should."""
    monkeypatch.setattr("quietbeam.denoiser.cooperative.INTERVAL_S", 0.0)
    true = specimen() * 6
    counts, there = draw(true), np.arange(40)[:, None] < np.full(40, 30)
    session = session_of(np.where(there, counts, 0), measured=there)
    session.infer()
    waiting, calls, maps = list(range(30, 40)), [], []

    def serve() -> None:
        calls.append(work)
        if waiting:
            row = waiting.pop(0)
            session.add_rows(row, counts[:, :, row : row + 1], np.ones((1, 40), bool))
            maps.append(session.infer((row, row + 1)))

    if work == "evaluate":
        session.evaluate(serve)
    elif work == "fine_tune":
        assert session.fine_tune(30.0, interrupt=lambda: len(calls) > 0, yield_callback=serve) == 1
    else:
        update = session.infer((0, 30), serve)
        assert update.rows[0] == 0 and update.rows[1] >= 30 and (update.denoised[:, :30] > 0).all()
    assert maps
    for row, strip in enumerate(maps, 30):
        assert type(strip.rows[1]) is int and strip.rows[1] == row + 1  # nothing is said of rows that are not measured
        assert (strip.denoised[:, -1] > 0).all()
    while waiting:
        serve()
    for hooks in ("_forward_pre_hooks", "_forward_hooks"):
        assert not any(getattr(module, hooks) for module in session._base.modules())
    update, _ = session.finalize(0.0)
    for j in range(3):
        assert ((update.raw[j] - true[j]) ** 2).mean() > 3 * ((update.denoised[j] - true[j]) ** 2).mean()


def test_cores_that_others_use_are_not_free() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        deadline = time.monotonic() + 20
        while device.free_cores(0.5) > 1:  # they need a moment to start
            assert time.monotonic() < deadline, "cores that are all busy count as free"
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_burst_ends_on_the_device_where_it_began() -> None:
    """Also when the burst ends with an error; "cpu:0" is another name of "cpu"."""
    begun = torch.device("cpu:0")
    session = session_of(draw(specimen() * 3))
    tuning, pairs = FineTuning(session._base, begun, 0), ThinnedPairs(session.data.sums("train"))

    def away() -> None:
        raise ConnectionError("whoever is served in between is away")

    for _ in range(2):
        calls = iter([False, True])
        plan = BurstPlan(budget_s=60.0, interrupt=lambda calls=calls: next(calls))
        assert tuning.burst(pairs, None, plan) == 1
        assert tuning.device == begun
        with pytest.raises(ConnectionError):
            tuning.burst(pairs, None, BurstPlan(budget_s=60.0, yield_callback=away))
        assert tuning.device == begun and tuning.chosen.head.weight.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_everything_runs_on_a_gpu() -> None:
    true = specimen() * 6
    session = session_of(draw(true), options=replace(OPTIONS, device="cuda"))
    maps = []
    for _ in range(2):  # the state of the optimizer stays on the GPU between bursts
        calls = iter([False] * 25 + [True])
        serve = lambda: maps.append(session.infer())  # noqa: E731
        steps = session.fine_tune(60.0, lambda calls=calls: next(calls), yield_callback=serve)
        assert steps == 25 and maps
    assert next(session.learned.parameters()).device.type == "cuda"
    assert "fine_tuned" in session.evaluate().lines[0].candidates
    update, _ = session.finalize(1.0)
    for j in range(3):
        assert ((update.raw[j] - true[j]) ** 2).mean() > 3 * ((update.denoised[j] - true[j]) ** 2).mean()


def test_fine_tuning_keeps_what_was_best_on_held_out_counts_and_stops() -> None:
    """A tiny map is learned by heart soon: the burst ends long before its time, and the best weights are kept."""
    session = session_of(draw(specimen(24) * 3))
    steps = session.fine_tune(600.0)
    assert steps < 1000 and session.learned_enough
    assert session.fine_tune(600.0) == 0
    tuning = session._tuning
    train, held = session.data.sums("train"), session.data.sums("held")

    def miss(network) -> float:
        rate, _ = networks.predict(network, train, session.device)
        return float(((held.exposure * rate - held.counts) ** 2).mean())

    assert miss(tuning.chosen) <= miss(session._base) * 1.001
    torch.testing.assert_close(tuning.network.head.weight, tuning.chosen.head.weight)


def test_harmful_weights_are_not_promoted() -> None:
    session = session_of(draw(specimen() * 6))
    session.fine_tune(60.0, interrupt=iter([False, True]).__next__)
    with torch.no_grad():
        session._tuning.chosen.head.weight.normal_(0, 2.0)
    evidence = session.evaluate()
    assert all(line.estimator != "fine_tuned" for line in evidence.lines)
    with torch.no_grad():
        broken = networks.fresh_copy(session._base, session.device)
        broken.head.weight.normal_(0, 2.0)
    session = session_of(draw(specimen() * 6))
    session._base = broken
    evidence = session.evaluate()
    assert {line.estimator for line in evidence.lines} <= {"raw", "smoother"}


@pytest.mark.parametrize("detectors", [1, 2])
def test_few_detectors(detectors: int) -> None:
    true = specimen() * 5
    update, evidence = session_of(draw(true, np.ones(detectors))).finalize(0.0)
    assert evidence.lines[0].estimator != "raw" and evidence.lines[0].improved
    assert ((update.raw - true) ** 2).mean() > 3 * ((update.denoised - true) ** 2).mean()


@pytest.mark.parametrize("shape", [(1, 50), (11, 11), (2, 3), (1, 1), (50, 1)])
def test_odd_shapes_are_finite(shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (3, 2, *shape))
    session = session_of(counts)
    session.infer()
    session.fine_tune(60.0, interrupt=iter([False, True]).__next__)
    update, evidence = session.finalize(0.0)
    for image in (update.raw, update.denoised, update.uncertainty):
        assert image.shape == (2, *shape) and np.isfinite(image).all()
    assert len(evidence.lines) == 2
    flat = quietbeam.denoise(counts, options=DenoiseOptions(fine_tune=False, device="cpu", threads=1))
    assert flat.denoised.shape == (2, *shape) and np.isfinite(flat.denoised).all()


def test_empty_and_constant_lines_stay_so() -> None:
    counts = draw(specimen() * 5)
    counts[:, 0] = 0
    counts[:, 1] = 0
    counts[0, 1, 20, 20] = 3
    update, evidence = session_of(counts).finalize(0.0)
    assert not update.denoised[0].any() and evidence.lines[0].estimator == "raw"
    assert update.denoised[1].sum() == pytest.approx(3, rel=0.3)
    assert np.isfinite(update.uncertainty).all()
    empty = session_of(counts, measured=np.zeros((40, 40), bool))
    update, evidence = empty.finalize(0.0)
    assert not update.denoised.any() and evidence.rows == 0


def test_dead_and_shadowed_detectors_are_excluded_and_named() -> None:
    counts = draw(specimen() * 40)
    counts[1] = 0
    counts[3, 0] = np.random.default_rng(1).poisson(0.004 * counts[0, 0] + 0.01)
    update, evidence = session_of(counts).finalize(0.0)
    assert "dead" in evidence.lines[0].excluded_detectors["det1"]
    assert "shadowed" in evidence.lines[0].excluded_detectors["det3"] or (
        "dead" in evidence.lines[0].excluded_detectors["det3"]
    )
    assert set(evidence.lines[1].excluded_detectors) == {"det1"}
    np.testing.assert_array_equal(update.raw[0], counts[[0, 2], 0].sum(0))
    assert any("det1" in note for note in evidence.notes)


def test_beam_intensity_and_live_time_are_exposure() -> None:
    true = specimen() * 30
    rng = np.random.default_rng(5)
    i0 = rng.uniform(0.4, 1.6, (40, 40)) * 1e5
    live = np.broadcast_to(np.linspace(0.6, 1.4, 40)[:, None], (4, 40, 40)).astype(np.float32)
    exposure = i0 / np.median(i0) * live[0] / np.median(live)
    counts = rng.poisson((GAINS / GAINS.sum())[:, None, None, None] * true * exposure)
    session = DenoiseSession(lines=list("abc"), detectors=list("wxyz"), shape=(40, 40), options=OPTIONS)
    session.add_rows(0, counts, np.ones((40, 40), bool), i0=i0, live_time_s=live)
    update, _ = session.finalize(0.0)
    assert update.raw.mean() == pytest.approx(true.mean(), rel=0.03)
    assert np.ptp(update.denoised[2]) < 1e-2 * 30  # the flat line shows no trace of the beam
    assert ((update.raw - true) ** 2).mean() > 2 * ((update.denoised - true) ** 2).mean()


def test_fitted_areas_of_several_detectors_are_learned_from() -> None:
    """Whole detectors are held out and the others paired: better than the pretrained network, and said with a gain."""
    rng = np.random.default_rng(3)
    r, c = np.mgrid[0:64, 0:64]
    spots = ((r % 9 - 4) ** 2 + (c % 9 - 4) ** 2 < 7).astype(float)
    true = 40 * np.stack([0.2 + spots, 1.2 - spots, np.ones((64, 64))])
    mean = np.broadcast_to(0.25 * true, (4, 3, 64, 64))
    areas = rng.normal(mean, np.sqrt(4 * mean + 2)).astype(np.float32)
    session = DenoiseSession(lines=list("abc"), detectors=list("wxyz"), shape=(64, 64), kind="areas", options=OPTIONS)
    session.add_rows(0, areas, np.ones((64, 64), bool))
    before, _ = session.finalize(0.0)
    assert session.fine_tune(1e6, lambda: session.evidence().fine_tune_steps >= 60) >= 40
    after, evidence = session.finalize(0.0)
    error = [((update.denoised[:2] - true[:2]) ** 2).mean() for update in (before, after)]
    assert error[1] < 0.95 * error[0]
    raw_error = ((after.raw - true) ** 2).mean((1, 2))
    for j in range(2):
        line = evidence.lines[j]
        assert line.estimator in ("fine_tuned", "nonlocal", "combined")
        assert line.candidates["fine_tuned"] > line.candidates["pretrained"]
        gain = raw_error[j] / ((after.denoised[j] - true[j]) ** 2).mean()
        assert line.dwell_gain_low is not None and line.dwell_gain_low < 1.2 * gain


def test_hot_pixels_that_raw_proves_are_not_erased() -> None:
    """Single pixels of 8 to 14 sigma on a constant, at low and high counts; and noise alone leaves a line constant."""
    for level, counts in ((0.1, 9), (8.0, 40), (400.0, 600)):
        true = np.full((2, 48, 48), level)
        hot = [(5, 40), (20, 20), (33, 9), (47, 47)]
        for at in hot:
            true[0][at] = counts
        update, evidence = session_of(draw(true, seed=int(counts))).finalize(0.0)
        for at in hot:
            assert update.denoised[0][at] > max(0.55 * update.raw[0][at], 0.4 * counts)
            if evidence.lines[0].estimator == "nonlocal":  # of its level there are four pixels at most
                assert 0.4 < update.uncertainty[0][at] / np.sqrt(update.raw[0][at]) < 1.3
        assert update.denoised[0].sum() == pytest.approx(update.raw[0].sum(), rel=1e-4)
        assert evidence.lines[1].estimator == "smoother" and np.ptp(update.denoised[1]) < 1e-3 * level
    far = [
        beyond_counting(np.full((300, 300), m), np.random.default_rng(0).poisson(m, (300, 300)), np.ones((300, 300)))
        for m in (0.02, 0.5, 6.0, 1e4)
    ]
    assert sum(int(f.sum()) for f in far) == 0


def test_a_pattern_that_returns_is_restored_from_its_copies() -> None:
    """Two levels in checks of two pixels: nothing that networks know, but every check has its likes nearby."""
    r, c = np.mgrid[0:48, 0:48] // 2
    true = np.stack([np.where((r + c) % 2, 60.0, 20.0), np.full((48, 48), 30.0)])
    session = session_of(draw(true))
    update, evidence = session.finalize(0.0)
    line = evidence.lines[0]
    assert line.estimator in ("nonlocal", "combined") and "nonlocal" in line.weights
    raw, best = (((m[0] - true[0]) ** 2).mean() for m in (update.raw, update.denoised))
    assert raw / best > 3 * line.candidates["pretrained"] and line.dwell_gain_low < raw / best
    assert update.denoised[0].sum() == pytest.approx(update.raw[0].sum(), rel=1e-4)
    assert evidence.lines[1].estimator == "smoother" and np.ptp(update.denoised[1]) < 1e-3
    strip = session.infer((20, 24))
    a, b = strip.rows
    assert np.abs(strip.denoised[0] / update.denoised[0, a:b] - 1).max() < 0.25


def test_what_is_published_has_an_interval_above_one() -> None:
    """Also after it was carried over to the whole exposure: small maps, where it is a near thing."""
    for size, seed in ((18, 7), (20, 2), (20, 3)):
        _, evidence = session_of(draw(specimen(size)[:, :12] * (4 + 2 * seed), seed=seed)).finalize(0.0)
        for line in evidence.lines:
            assert line.estimator == "raw" or line.dwell_gain_low >= 1.0


def test_tiles_have_no_seams() -> None:
    session = session_of(draw(specimen(96) * 4))
    sums = session.data.sums("all")
    whole, _ = networks.predict(session._base, sums, session.device)
    shares: list[float] = []
    tiled, _ = networks.predict(session._base, sums, session.device, tile=40, on_progress=shares.append)
    assert len(shares) == 9 and shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    noise = np.sqrt(whole)
    assert np.abs((tiled - whole) / noise).mean() < 0.05
    # pixels on both sides of a tile border differ no more than elsewhere
    step = np.abs(np.diff(tiled - whole, axis=2) / noise[:, :, 1:]).mean((0, 1))
    assert step[[39, 79]].mean() < 0.1


def test_flips_average_and_come_back() -> None:
    image = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)
    for code in range(8):
        np.testing.assert_array_equal(networks.undo_symmetry(networks.apply_symmetry(image, code), code), image)


@pytest.mark.parametrize(("large", "published"), [(4_000_000, 4), (48 * 48, 2)])
def test_large_maps_average_half_as_many_flips(monkeypatch: pytest.MonkeyPatch, large: int, published: int) -> None:
    taken: list[int] = []
    progress: list[tuple[str, float]] = []

    predict = networks.predict

    def flips_recorded(*args: Any, flips: int = 1, **kwargs: Any) -> Any:
        taken.append(flips)
        return predict(*args, flips=flips, **kwargs)

    monkeypatch.setattr("quietbeam.denoiser.session.LARGE", large)
    monkeypatch.setattr("quietbeam.denoiser.estimators.networks.predict", flips_recorded)
    session = session_of(draw(specimen(48) * 4))
    session.options = replace(OPTIONS, final_flips=4)
    session.finalize(0.0, lambda *done: progress.append(done))
    assert taken[-1] == published and published // 2 in taken  # half of them where it is judged
    assert progress[-1] == ("denoise", 1.0)


def test_missing_weights_are_our_error() -> None:
    with pytest.raises(WeightsError):
        DenoiseSession(lines=["a"], detectors=["d"], shape=(4, 4), options=SessionOptions(weights="no-such"))


def test_a_run_is_concluded_with_what_is_new_or_in_haste_with_what_is_known() -> None:
    counts = draw(specimen(48) * 6)
    measured = np.ones((48, 48), bool)
    session = session_of(counts, measured=measured & (np.arange(48) < 44)[:, None])
    assert session.conclude_s() == 0.0
    session.evaluate()
    assert session.conclude_s() > 0.0
    session.add_rows(44, counts[:, :, 44:], measured[44:])
    update, evidence = session.conclude(within_s=0.0)
    assert evidence.final and not evidence.refined and evidence.rows == 44, "what was evaluated before stands"
    assert update.rows == (0, 48) and update.denoised[:, 44:].any()
    evidence = session.conclude()[1]
    assert evidence.rows == 48 and all(line.estimator != "raw" for line in evidence.lines[:2])
    assert session.finalize(0.0)[1].refined


def test_the_evidence_of_the_end_has_every_fold_where_the_time_allows() -> None:
    """A band that grew until the end has one fold by then."""
    counts = draw(specimen(40) * 4)
    live = DenoiseSession(lines=list("abc"), detectors=list("wxyz"), shape=(40, 40), options=OPTIONS)
    for first in range(0, 40, 8):
        live.add_rows(first, counts[:, :, first : first + 8], np.ones((8, 40), bool))
        live.evaluate(complete=False)
    concluded, known = live.conclude(within_s=60.0)[1], session_of(counts).evaluate()
    for ours, theirs in zip(concluded.lines, known.lines, strict=True):
        assert (ours.estimator, ours.verdict) == (theirs.estimator, theirs.verdict)
        assert ours.dwell_gain == pytest.approx(theirs.dwell_gain, rel=0.2)
