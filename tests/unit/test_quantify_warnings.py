"""Areal densities that cannot be right are warned of."""

from __future__ import annotations

import numpy as np
import pytest

from quietbeam.quantify import LineDensity
from quietbeam.quantify.checks import negative_notes

FE = LineDensity(line="Fe_Ka", factor=0.01, background=20.0)


def test_a_background_that_does_not_fit_is_warned_of() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (1, 30, 40)).astype(float)
    assert negative_notes(counts, "counts", [FE]) == [], "an empty sample is not below zero"
    counts[0, :12, :12] = np.random.default_rng(1).poisson(8.0, (12, 12))
    counts[0, 0, :3] = np.nan
    [note] = negative_notes(counts, "counts", [FE])
    assert note.startswith("BELOW ZERO: Fe_Ka reaches -0.1") and "± 0.007 ug/cm2 (mean of 36 pixels)" in note
    assert "the calibration or its background does not fit this run" in note


@pytest.mark.parametrize("level", [0.02, 1.0, 50.0])
def test_noise_alone_is_not_warned_of(level: float) -> None:
    rng = np.random.default_rng(2)
    lines = [LineDensity(line=f"line_{i}", factor=0.1, background=level) for i in range(8)]
    assert negative_notes(rng.poisson(level, (8, 128, 128)).astype(float), "counts", lines) == []
    assert negative_notes(rng.normal(level, 3.0, (8, 128, 128)), "areas", lines) == []


def test_areas_far_below_zero_and_lines_without_a_unit() -> None:
    areas = np.random.default_rng(3).normal(-2.0, 1.0, (2, 12, 12))
    lines = [LineDensity(line="Fe_Ka", factor=2.0), LineDensity(line="Zn_Ka", reason="not in the standard")]
    [note] = negative_notes(areas, "areas", lines)
    assert "Fe_Ka reaches -4" in note
    assert negative_notes(np.full((2, 12, 12), np.nan), "areas", lines) == []
