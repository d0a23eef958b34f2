"""A finished map: what is taken, what is refused, and that neither units nor clocks matter."""

import numpy as np
import pytest
import torch
from denoiser_kit import GAINS, OPTIONS, draw, session_of, specimen

import quietbeam
from quietbeam.core.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_areas_with_gaps_and_negatives_are_never_worse_than_raw() -> None:
    rng = np.random.default_rng(2)
    true = specimen() * 50
    share = GAINS[:, None, None, None] / GAINS.sum()
    areas = share * true + rng.normal(0, np.sqrt(6 * share * true + 3))
    areas[:, :, 7, 3:9] = np.nan
    areas[2, 1, 20] = np.nan
    result = quietbeam.denoise(areas, lines=["a", "b", "c"], options=OPTIONS)
    assert result.evidence.kind == "areas"
    assert np.isfinite(result.denoised).all() and not result.denoised[:, 7, 3:9].any()
    lit = result.measured
    for j in range(3):
        raw = ((result.raw[j] - true[j])[lit] ** 2).mean()
        assert ((result.denoised[j] - true[j])[lit] ** 2).mean() < 1.02 * raw
    assert {line.estimator for line in result.evidence.lines} != {"raw"}
    alone = quietbeam.denoise(areas[:1], options=OPTIONS)
    assert {line.verdict for line in alone.evidence.lines} == {"not_tested"} and alone.evidence.notes
    assert {line.dwell_gain for line in alone.evidence.lines} == {None}
    raw, best = (((one[:2] - (share[0] * true)[:2])[:, lit] ** 2).mean() for one in (alone.raw, alone.denoised))
    assert best < 0.7 * raw


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda: quietbeam.denoise(np.ones((3, 8, 8))), "axes"),
        (lambda: quietbeam.denoise(np.ones((2, 0, 8, 8))), "axes"),
        (lambda: quietbeam.denoise(np.ones((2, 3, 8, 8)), lines=["a"]), "3 lines"),
        (lambda: quietbeam.denoise(np.ones((2, 2, 8, 8)), lines=["a", "a"]), "differ"),
        (lambda: quietbeam.denoise(np.full((2, 1, 8, 8), np.nan)), "NaN"),
        (lambda: quietbeam.denoise(np.full((2, 1, 8, 8), np.inf)), "infinities"),
        (lambda: quietbeam.denoise(-np.ones((2, 1, 8, 8), int)), "negative"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), i0=np.ones(8)), "i0"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), device="toaster"), "device"),
        (lambda: quietbeam.denoise(np.full((2, 1, 8, 8), "x")), "numbers"),
        (lambda: quietbeam.denoise([[[[1, 2], [3]]]]), "full array"),
        (lambda: quietbeam.denoise(np.full((2, 1, 8, 8), 2**64 - 1, "u8")), "no data"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), i0=np.zeros((8, 8))), "i0 holds no positive"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), i0=np.full((8, 8), 1j)), "i0 must be numbers"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), live_time_s=-np.ones((8, 8))), "live_time_s holds"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), measured=np.zeros((8, 8))), "leaves no pixel"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), measured=np.full((8, 8), "False")), "true or false"),
        (lambda: quietbeam.denoise(np.ones((2, 2, 8, 8)), lines=[1, "1"]), "differ"),
        (lambda: quietbeam.denoise(np.ones((2, 2, 8, 8)), lines=2), "names of 2 lines"),
        (lambda: quietbeam.DenoiseOptions(seed=-1), "seed"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), steps=1.5), "steps"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), budget_s=float("nan")), "budget_s"),
        (lambda: quietbeam.DenoiseOptions(kind="count"), "kind"),
        (lambda: quietbeam.denoise(np.ones((2, 1, 8, 8)), device=None), "device"),
        (lambda: quietbeam.denoise(np.broadcast_to(np.uint8(1), (16, 40, 50_000, 50_000))), "fewer lines"),
        (lambda: session_of(np.full((1, 1, 4, 4), 0.5)), "areas"),
        (lambda: session_of(-np.ones((1, 1, 4, 4))), "areas"),
        (lambda: session_of(np.ones((1, 1, 4, 4))).add_rows(3, np.ones((1, 1, 2, 4)), np.ones((2, 4))), "fit"),
        (lambda: session_of(np.ones((1, 1, 4, 4))).add_rows(0, np.ones((1, 2, 1, 4)), np.ones((1, 4))), "shape|rows"),
    ],
)
def test_bad_input_says_what_to_change(bad, says: str) -> None:
    with pytest.raises(InputError, match=says):
        bad()


def test_what_is_masked_or_without_beam_is_not_measured() -> None:
    counts = np.random.default_rng(0).poisson(3, (4, 2, 24, 24))
    masked = np.ma.masked_array(counts, np.zeros(counts.shape, bool))
    masked[:, :, :6] = np.ma.masked
    masked[:, 1, 10, 10] = np.ma.masked
    i0 = np.ones((24, 24))
    i0[20:] = 0
    result = quietbeam.denoise(masked, i0=i0, budget_s=0, device="cpu")
    np.testing.assert_array_equal(result.measured.all(1), (np.arange(24) >= 6) & (np.arange(24) < 20))
    assert not result.raw[:, ~result.measured].any()
    assert any("line line_1: 1 pixels were not measured" in note for note in result.evidence.notes)
    assert not any("differs smoothly" in note for note in result.evidence.notes)
    gone = counts.astype(float)
    gone[:, 1] = np.nan
    line = quietbeam.denoise(gone, budget_s=0, device="cpu").evidence.lines[1]
    assert line.estimator == "raw" and line.verdict == "not_tested" and line.dwell_gain is None
    assert line.verdict_reason == "Nothing was measured of this line."


def test_what_could_not_be_tested_says_why() -> None:
    counts = draw(specimen(24))
    counts[:, 1] = 0
    dark = quietbeam.denoise(counts, budget_s=0, device="cpu").evidence
    assert dark.lines[1].verdict == "not_tested" and "no counts" in dark.lines[1].verdict_reason
    assert any("could be tested for line_1" in note for note in dark.notes)
    areas = counts[:1].astype(np.float32) + 0.25
    alone = quietbeam.denoise(areas, budget_s=0, device="cpu").evidence
    assert all("One detector of fitted areas" in line.verdict_reason for line in alone.lines)
    tiny = quietbeam.denoise(draw(specimen(24) * 50)[:, :, :1, :3], budget_s=0, device="cpu").evidence
    assert {line.verdict for line in tiny.lines} == {"not_tested"}
    assert all("Too few pixels" in line.verdict_reason for line in tiny.lines)


def test_steps_in_place_of_seconds_give_the_same_maps_again() -> None:
    counts = draw(specimen(32) * 4)
    threads = torch.get_num_threads()
    results = [
        quietbeam.denoise(counts, steps=6, options=quietbeam.DenoiseOptions(seed=3, device="cpu")) for _ in range(2)
    ]
    assert [r.evidence.fine_tune_steps for r in results] == [6, 6]
    np.testing.assert_allclose(results[0].denoised, results[1].denoised, rtol=1e-4)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**50])
def test_the_unit_of_fitted_areas_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(0)
    mean = np.repeat(specimen(32)[None] * 30, 4, 0)
    areas = rng.poisson(mean) * 1.3 + rng.normal(0, 0.2, mean.shape)
    areas[:, 2] = rng.normal(0, 1, areas[:, 2].shape)
    one, other = (quietbeam.denoise(areas * k, budget_s=0, device="cpu") for k in (1.0, scale))
    for a, b in zip(one.evidence.lines, other.evidence.lines, strict=True):
        assert (a.estimator, a.dwell_gain, a.excluded_detectors) == (b.estimator, b.dwell_gain, {})
        assert b.mean_counts == pytest.approx(a.mean_counts * scale, rel=1e-3)
    for kind in ("raw", "denoised", "uncertainty"):
        np.testing.assert_allclose(getattr(other, kind), getattr(one, kind) * scale, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("dead", [[0], [0, 1], [3], [0, 1, 2]])
def test_fitted_areas_with_dead_detectors_are_learned_from(dead: list[int]) -> None:
    areas = np.random.default_rng(0).normal(20, 4, (4, 2, 24, 24))
    areas[dead] = 0
    result = quietbeam.denoise(areas, steps=2, device="cpu")
    # one side holds out, two train; with one detector nothing is tested
    assert result.evidence.fine_tune_steps == (2 if len(dead) == 1 else 0)
    for line in result.evidence.lines:
        assert len(line.excluded_detectors) == len(dead) and (line.verdict != "not_tested") == (len(dead) < 3)


def test_keywords_of_version_0_1_work_and_name_the_new_call() -> None:
    counts = np.random.default_rng(0).poisson(3, (2, 1, 12, 12))
    steps: list[str] = []
    with pytest.warns(DeprecationWarning) as warned:
        old = quietbeam.denoise(
            counts, ["Fe_Ka"], device="cpu", fine_tune=False, seed=2, progress=lambda step, _: steps.append(step)
        )
    messages = [str(warning.message) for warning in warned]
    assert "denoise(counts, lines, options=DenoiseOptions(fine_tune=False, seed=2))" in messages[1]
    assert "on_progress=f" in messages[0] and steps[0] == "read" and steps[-1] == "denoise"
    assert all(warning.filename == __file__ for warning in warned)
    new = quietbeam.denoise(counts, ["Fe_Ka"], options=quietbeam.DenoiseOptions(device="cpu", fine_tune=False, seed=2))
    np.testing.assert_array_equal(old.denoised, new.denoised)
    with pytest.raises(TypeError, match="budget"):
        quietbeam.denoise(counts, budget=3.0)
