"""The correlation of two lines without counting noise, against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.regions.correlation import correlate, joint_histogram

EVERYWHERE = np.ones((64, 64), bool)


def pair(r: float, level: float, seed: int, shape: tuple[int, int] = (64, 64)) -> tuple[np.ndarray, np.ndarray, float]:
    """Expected counts of two lines that go together, and the correlation that these have."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, *shape))
    x = level * np.exp(0.3 * a)
    y = level * np.exp(0.3 * (r * a + np.sqrt(1 - r**2) * b))
    return x, y, float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


@pytest.mark.parametrize(("r", "level"), [(0.9, 5.0), (0.9, 50.0), (0.3, 10.0), (0.0, 5.0), (-0.7, 20.0)])
def test_noise_is_taken_out_of_the_correlation(r: float, level: float) -> None:
    corrected, measured, held = [], [], 0
    for seed in range(60):
        x, y, truth = pair(r, level, seed)
        rng = np.random.default_rng(1000 + seed)
        found = correlate(rng.poisson(x).astype(float), rng.poisson(y).astype(float), EVERYWHERE)
        assert found.corrected is not None and found.low is not None and found.high is not None, found.reason
        assert found.measured is not None
        corrected.append(found.corrected - truth)
        measured.append(found.measured - truth)
        held += found.low <= truth <= found.high
    assert abs(np.mean(corrected)) < 0.015
    if abs(r) > 0.2 and level < 40:
        assert abs(np.mean(measured)) > 4 * abs(np.mean(corrected)), "uncorrected it is too low"
    assert held >= 52, "95 % intervals hold the truth of 60 in 57 cases, give or take 2"


def test_the_slope_is_that_of_the_truth() -> None:
    x, _, _ = pair(0.0, 8.0, 1)
    rng = np.random.default_rng(2)
    found = correlate(rng.poisson(x).astype(float), rng.poisson(3 * x).astype(float), EVERYWHERE)
    assert found.slope == pytest.approx(3.0, rel=0.1) and found.corrected == pytest.approx(1.0, abs=0.05)


def test_what_cannot_be_told_says_why() -> None:
    rng = np.random.default_rng(3)
    flat, other = rng.poisson(9.0, (2, 64, 64)).astype(float)
    assert "no more than counting noise" in correlate(flat, other, EVERYWHERE).reason
    assert "too few" in correlate(flat[:5, :5], other[:5, :5], EVERYWHERE[:5, :5]).reason
    assert correlate(np.zeros((64, 64)), other, EVERYWHERE, ("P_Ka", "S_Ka")).reason.startswith("P_Ka has the same")
    assert correlate(other * 9, flat, EVERYWHERE, ("P_Ka", "S_Ka")).reason.startswith("S_Ka varies no more than")
    hole = np.where(np.indices((64, 64))[0] < 63, np.nan, flat)
    assert correlate(hole, other, EVERYWHERE).n == 64


@pytest.mark.parametrize("rows", [32, 8], ids=["whole map", "rows 0 to 8"])
def test_few_bright_places_do_not_make_a_line_look_like_noise(rows: int) -> None:
    """Structure that lies in few blocks makes a variance uncertain, and yet it is no counting noise."""
    lines = ("P_Ka", "S_Ka", "K_Ka", "Ca_Ka", "Fe_Ka")
    options = ExperimentOptions(specimen="cell", shape=(32, 32), lines=lines, counts=8.0, seed=0)
    expected = Experiment(options).expected_counts[:, :rows]
    rng, held, off = np.random.default_rng(5), 0, []
    for one, other in ((0, 1), (0, 2), (1, 2), (3, 4)):
        x, y = expected[one], expected[other]
        truth = float(np.corrcoef(x.ravel(), y.ravel())[0, 1])
        for _ in range(15):
            found = correlate(rng.poisson(x).astype(float), rng.poisson(y).astype(float), np.ones(x.shape, bool))
            assert found.corrected is not None and found.low is not None and found.high is not None, found.reason
            off.append(found.corrected - truth)
            held += found.low <= truth <= found.high
    assert abs(np.mean(off)) < 0.01
    assert held >= 48, "of 60; intervals from few blocks hold the truth in 85 to 100 of 100 cases"


def test_what_hangs_on_one_block_is_not_told_as_certain() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.poisson(9.0, (2, 64, 64)).astype(float)
    x[3, 3], y[3, 3] = 900.0, 700.0
    found = correlate(x, y, EVERYWHERE)
    assert found.corrected is not None and found.corrected > 0.9
    assert found.low is not None and found.low < 0, "without this pixel nothing says that the lines go together"


def test_the_joint_histogram_counts_every_pixel_once() -> None:
    x, y = np.random.default_rng(4).normal(size=(2, 64, 64))
    x[0] = np.nan
    found = joint_histogram(x, y, EVERYWHERE)
    assert found is not None and np.sum(found.pixels) == 63 * 64 and len(found.x_edges) == len(found.pixels) + 1
    assert joint_histogram(x, y, ~EVERYWHERE) is None
