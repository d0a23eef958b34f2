"""Clusters of pixels against a map that was made of known parts."""

from __future__ import annotations

import numpy as np
import pytest

from quietbeam.core.errors import InputError
from quietbeam.regions.clusters import find_clusters

pytest.importorskip("sklearn", reason="clusters need scikit-learn")


def parts(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three parts of 40 x 40 pixels in four lines, the last of which is noise; denoised with an error of a tenth."""
    truth = np.zeros((40, 40), int)
    truth[5:20, 5:35] = 1
    truth[25:35, 10:30] = 2
    levels = np.array([[4.0, 50.0, 20.0], [30.0, 30.0, 300.0], [2.0, 20.0, 2.0], [9.0, 9.0, 9.0]])
    expected = levels[:, truth]
    error = 0.1 * np.sqrt(expected) + 0.05
    return truth, expected + error * np.random.default_rng(seed).normal(size=expected.shape), error


@pytest.mark.parametrize("method", ["kmeans", "nmf"])
def test_the_parts_are_found_with_the_number_suggested(method: str) -> None:
    truth, denoised, error = parts()
    found = find_clusters(denoised, error, method=method, number=None if method == "kmeans" else 3)  # type: ignore[arg-type]
    assert found.number == 3
    if method == "kmeans":
        assert max(found.scores, key=lambda k: found.scores[k]) == 3
        assert (found.labels == truth).mean() > 0.99, "the largest is the first"
    assert "1 lines are left out" in " ".join(found.notes)


def test_what_is_not_measured_is_in_no_cluster() -> None:
    _, denoised, error = parts(1)
    denoised[:, 30:] = np.nan
    found = find_clusters(denoised, error, number=2)
    assert (found.labels[30:] == -1).all() and (found.labels[:30] >= 0).all() and not found.scores


def test_there_may_be_nothing_to_divide() -> None:
    _, denoised, error = parts(2)
    with pytest.raises(InputError, match="no line varies"):
        find_clusters(denoised[3:], error[3:])
    with pytest.raises(InputError, match="25 denoised pixels are too few"):
        find_clusters(denoised[:, :5, :5], error[:, :5, :5])
    with pytest.raises(InputError, match="ask for 2 to 12"):
        find_clusters(denoised, error, number=13)
    with pytest.raises(InputError, match="take kmeans"):
        find_clusters(denoised, error, number=9, method="nmf")


def test_a_slope_has_no_clear_clusters() -> None:
    slope = np.random.default_rng(3).uniform(50, 100, (6, 40, 40))
    found = find_clusters(slope, np.full(slope.shape, 1.0))
    assert "run into each other" in " ".join(found.notes)
