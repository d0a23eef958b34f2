"""What the detectors count: statistics, gains, dead time, truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quietbeam.beamline.experiment import Experiment, ExperimentOptions, live_fraction
from quietbeam.beamline.truth import Truth
from quietbeam.core.errors import FileFormatError, InputError

OPTIONS = ExperimentOptions(
    specimen="cell", lines=("P_Ka", "Ca_Ka", "Fe_Ka"), shape=(24, 30), detectors=4, counts=20.0, seed=7
)


def scan(experiment: Experiment) -> Truth:
    rows, cols = experiment.options.shape
    for row in range(rows):
        for col in range(cols):
            experiment.report(experiment.measure(row, col))
    return experiment.truth("uid")


def means(truth: Truth) -> np.ndarray:
    """The formula of Truth's docstring."""
    share = truth.gains / len(truth.detectors)
    exposure = truth.i0 / truth.i0_nominal * truth.live_time_s / truth.dwell_s
    return share[:, :, None, None] * truth.expected_counts * exposure[:, None]


def test_counts_are_a_pure_function_of_seed_pixel_and_visit() -> None:
    forwards, backwards = Experiment(OPTIONS), Experiment(OPTIONS)
    pixels = [(r, c) for r in range(3) for c in range(5)]
    one = {p: forwards.measure(*p).counts for p in pixels}
    two = {p: backwards.measure(*p).counts for p in reversed(pixels)}
    assert all(np.array_equal(one[p], two[p]) for p in pixels)
    again = forwards.measure(0, 0).counts
    assert np.array_equal(again, backwards.measure(0, 0).counts)
    centre = [forwards.measure(12, 15).counts for _ in range(3)]
    assert not np.array_equal(centre[0], centre[1]), "a second visit draws anew"
    other = Experiment(replace(OPTIONS, seed=8))
    assert not np.array_equal(other.expected_counts, forwards.expected_counts)


def test_counts_are_poisson_around_the_truth() -> None:
    truth = scan(Experiment(OPTIONS))
    mean = means(truth)
    bright = mean > 1
    assert bright.sum() > 3000
    chi2 = ((truth.counts - mean) ** 2 / mean)[bright]
    assert chi2.mean() == pytest.approx(1, abs=4 * np.sqrt(2.5 / bright.sum()))
    pulls = (truth.counts.sum((2, 3)) - mean.sum((2, 3))) / np.sqrt(mean.sum((2, 3)))
    assert np.abs(pulls).max() < 4.5


def test_detectors_are_independent() -> None:
    truth = scan(Experiment(OPTIONS))
    mean = means(truth)
    residual = ((truth.counts - mean) / np.sqrt(mean + 1e-9)).reshape(12, -1)
    correlation = np.corrcoef(residual) - np.eye(12)
    assert np.abs(correlation).max() < 5 / np.sqrt(residual.shape[1])


def test_gains_span_what_real_detectors_do_and_show_in_the_counts() -> None:
    experiment = Experiment(replace(OPTIONS, counts=200.0, dead_time_s=0.0))
    truth = scan(experiment)
    assert truth.gains.mean(0) == pytest.approx(np.ones(3))
    assert 0.6 < truth.gains.min() < 0.8 and 1.2 < truth.gains.max() < 1.45
    seen = truth.counts.sum((2, 3)) / truth.counts.sum((0, 2, 3)) * 4
    assert seen == pytest.approx(truth.gains, rel=0.02)
    per_line = truth.gains / truth.gains.mean(1, keepdims=True)
    assert 0.005 < per_line.std() < 0.1, "small differences from line to line"


def test_the_wanted_counts_are_those_of_a_typical_line() -> None:
    for counts in (0.5, 8.0, 32.0):
        experiment = Experiment(replace(OPTIONS, counts=counts))
        assert np.median(experiment.expected_counts.mean((1, 2))) == pytest.approx(counts)
    brighter = Experiment(replace(OPTIONS, counts=None, flux=2.0)).expected_counts
    assert brighter == pytest.approx(2 * Experiment(replace(OPTIONS, counts=None, flux=1.0)).expected_counts)


def test_dead_time_follows_the_textbook() -> None:
    rate, tau = np.array([0.0, 1e5, 1e6]), 1e-6
    assert live_fraction(rate, tau, paralyzable=False) == pytest.approx(1 / (1 + rate * tau))
    assert live_fraction(rate, tau, paralyzable=True) == pytest.approx(np.exp(-rate * tau))
    # non-paralyzable against a simulation of the electronics: a photon is lost within tau of the last recorded one
    arrivals = np.cumsum(np.random.default_rng(0).exponential(1 / 5e5, 40_000))
    recorded, busy_until = 0, 0.0
    for arrival in arrivals:
        if arrival >= busy_until:
            recorded, busy_until = recorded + 1, arrival + tau
    assert recorded / len(arrivals) == pytest.approx(live_fraction(np.array(5e5), tau, paralyzable=False), rel=0.02)


def test_dead_time_costs_counts_and_is_reported() -> None:
    options = replace(OPTIONS, counts=2000.0, dead_time_s=1e-6)
    busy = Experiment(options)
    ideal = Experiment(replace(options, dead_time_s=0.0))
    centre = busy.measure(12, 15)
    assert (centre.live_time_s < 0.9 * options.dwell_s).all()
    assert ideal.measure(12, 15).live_time_s == pytest.approx(options.dwell_s)
    ratio = busy.expected_frame(12, 15) / ideal.expected_frame(12, 15)
    assert ratio == pytest.approx((centre.live_time_s / options.dwell_s)[:, None] * np.ones(3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"counts": 1e6}, "dead time would be"),
        ({"shape": (0, 5)}, "shape"),
        ({"detectors": 0}, "detectors"),
        ({"dwell_s": 0.0}, "dwell"),
        ({"lines": ()}, "at least one line"),
        ({"counts": -1.0}, "counts"),
    ],
)
def test_impossible_measurements_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Experiment(replace(OPTIONS, **change))


def test_the_truth_survives_its_file(tmp_path: Path) -> None:
    experiment = Experiment(OPTIONS)
    experiment.report(experiment.measure(3, 4))
    truth = experiment.truth("a-run")
    truth.save(tmp_path / "deep" / "t.npz")
    loaded = Truth.load(tmp_path / "deep" / "t.npz")
    assert loaded.run_uid == "a-run" and loaded.lines == OPTIONS.lines and loaded.detectors == experiment.detectors
    for name in ("expected_counts", "gains", "counts", "i0", "live_time_s", "measured"):
        assert np.array_equal(getattr(loaded, name), getattr(truth, name))
    assert loaded.measured.sum() == 1 and loaded.measured[3, 4]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["t.npz"], "no draft is left"
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match=r"bad\.npz"):
        Truth.load(tmp_path / "bad.npz")


def test_each_run_starts_over_with_other_counts() -> None:
    experiment = Experiment(OPTIONS)
    first = scan(experiment)
    experiment.start_over()
    assert not experiment.truth().measured.any() and not experiment.truth().counts.any()
    second = scan(experiment)
    assert not np.array_equal(first.counts, second.counts)
    assert np.array_equal(first.expected_counts, second.expected_counts)
