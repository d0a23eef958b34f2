"""Evidence that grows with the run: which bands are scored again, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from denoiser_kit import draw

from quietbeam.core.model.types import FloatArray
from quietbeam.denoiser.data.area_noise import NoiseModel
from quietbeam.denoiser.data.counts import RunCounts
from quietbeam.denoiser.data.sums import Sums
from quietbeam.denoiser.estimators.smoother import smooth
from quietbeam.denoiser.evaluation.band_folds import BAND_ROWS, HALO_ROWS, BandFolds, joined
from quietbeam.denoiser.evaluation.fold_errors import (
    controlled_error,
    first_folds,
    total_counting_variance,
    total_error,
)
from quietbeam.denoiser.evaluation.risk import FOLDS, LINE_PIXELS

COLS = 64
NOISE = NoiseModel.poisson(2)


class Estimates:
    """Stands for the networks: a smoother, which counts the rows that it was asked for."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []

    def __call__(self, name: str, sums: Sums) -> tuple[FloatArray, FloatArray | None]:
        self.rows.append((name, sums.counts.shape[1]))
        width = 1.0 if name == "pretrained" else 1.5
        pairs = zip(sums.counts, sums.exposure, strict=True)
        rate = np.stack([smooth(counts, exposure, width) for counts, exposure in pairs])
        return rate, np.full_like(rate, 0.1)


def specimen(rows: int, cols: int = COLS) -> np.ndarray:
    y, x = np.mgrid[:rows, :cols]
    return np.stack([3 + 2 * np.sin(y / 9) * np.cos(x / 5), np.full((rows, cols), 4.0)])


def filled(counts: np.ndarray, rows: int) -> RunCounts:
    data = RunCounts(["a", "b"], [f"d{k}" for k in range(len(counts))], counts.shape[2:], "counts", 0)
    grow(data, counts, 0, rows)
    return data


def grow(data: RunCounts, counts: np.ndarray, first: int, stop: int) -> None:
    data.add_rows(first, counts[:, :, first:stop], np.ones((stop - first, counts.shape[3]), bool))
    data.estimate_gains()


def score(bands: BandFolds, data: RunCounts, estimates: Estimates, *names: str, tuned: int = 0, n_folds: int = FOLDS):
    return bands.score(data, NOISE, estimates, names or ("pretrained",), n_folds=n_folds, tuned=tuned)


def test_only_bands_with_new_rows_are_scored_again() -> None:
    counts = draw(specimen(3 * BAND_ROWS))
    data, bands, estimates = filled(counts, BAND_ROWS + 8), BandFolds(0), Estimates()
    score(bands, data, estimates)
    assert sorted(rows for _, rows in estimates.rows) == [8 + HALO_ROWS] * FOLDS + [BAND_ROWS + 8] * FOLDS

    estimates.rows.clear()
    score(bands, data, estimates)
    assert estimates.rows == [], "nothing is new"

    grow(data, counts, BAND_ROWS + 8, BAND_ROWS + 20)
    score(bands, data, estimates)
    assert [rows for _, rows in estimates.rows] == [20 + HALO_ROWS] * FOLDS


def test_a_run_that_grew_is_scored_as_one_that_came_at_once() -> None:
    counts = draw(specimen(2 * BAND_ROWS + 9))
    grown, bands = filled(counts, 30), BandFolds(0)
    for first in range(30, counts.shape[2], 17):
        score(bands, grown, Estimates())
        grow(grown, counts, first, min(first + 17, counts.shape[2]))
    by_rows = score(bands, grown, Estimates())
    at_once = score(BandFolds(0), filled(counts, counts.shape[2]), Estimates())
    raw = total_error(at_once, "raw").sum(1)
    np.testing.assert_allclose(total_error(by_rows, "raw").sum(1), raw, rtol=0.01)
    for name in ("pretrained", "2.5"):
        a, b = total_error(by_rows, name), total_error(at_once, name)
        assert a.shape == b.shape
        # other draws of what is held out, and bands that were complete before there were rows below them
        np.testing.assert_allclose(a.sum(1) / raw, b.sum(1) / raw, atol=0.05)


def test_new_weights_are_scored_on_the_fold_that_never_trains() -> None:
    counts = draw(specimen(2 * BAND_ROWS))
    data, bands, estimates = filled(counts, 2 * BAND_ROWS), BandFolds(0), Estimates()
    score(bands, data, estimates)
    estimates.rows.clear()
    for tuned in (1, 1, 2):
        folds = score(bands, data, estimates, "pretrained", "fine_tuned", tuned=tuned)
    assert estimates.rows == [("fine_tuned", BAND_ROWS + HALO_ROWS)] * 4, "two bands, twice"
    assert all(("fine_tuned" in fold.errors) == (fold.index == 0) for fold in folds)


def test_one_fold_first_and_the_others_later() -> None:
    counts = draw(specimen(BAND_ROWS))
    data, bands, estimates = filled(counts, BAND_ROWS), BandFolds(0), Estimates()
    assert len(score(bands, data, estimates, n_folds=1)) == 1
    folds = score(bands, data, estimates)
    assert len(estimates.rows) == FOLDS and [fold.index for fold in folds] == list(range(FOLDS))
    held = sum(fold.fold.held.counts for fold in folds)
    np.testing.assert_array_equal(held, data.sums("all").counts)


def test_a_live_evaluation_scores_the_first_fold_of_new_rows_and_more_where_nothing_changes() -> None:
    counts = draw(specimen(2 * BAND_ROWS + 8))
    data, bands, estimates = filled(counts, 2 * BAND_ROWS), BandFolds(0), Estimates()

    def live() -> list[int]:
        folds = bands.score(data, NOISE, estimates, ("pretrained",), complete=False)
        return [fold.index for fold in folds]

    def more() -> bool:
        return bands.score_more(data, NOISE, estimates, ("pretrained",), tuned=0)

    assert live() == [0, 0]
    grow(data, counts, 2 * BAND_ROWS, 2 * BAND_ROWS + 4)
    assert live() == [0, 0, 0]
    grow(data, counts, 2 * BAND_ROWS + 4, 2 * BAND_ROWS + 8)
    estimates.rows.clear()
    assert more() and more()
    wide = BAND_ROWS + HALO_ROWS
    assert [rows for _, rows in estimates.rows] == [wide, wide + 4], "not the band whose rows changed"
    assert live() == [0, 1, 0, 1, 0]
    while more():
        pass
    assert live() == 3 * list(range(FOLDS))
    held = sum(fold.fold.held.counts.sum() for fold in bands.score(data, NOISE, estimates, ("pretrained",)))
    assert held == data.sums("all").counts.sum(), "each photon is held out once"


def test_newer_weights_and_further_folds_take_turns() -> None:
    counts = draw(specimen(3 * BAND_ROWS))
    data, bands, estimates = filled(counts, 3 * BAND_ROWS), BandFolds(0), Estimates()
    names = ("pretrained", "fine_tuned")
    bands.score(data, NOISE, estimates, names, tuned=1, complete=False)
    estimates.rows.clear()
    for _ in range(4):
        assert bands.score_more(data, NOISE, estimates, names, tuned=2)
    assert [name for name, _ in estimates.rows] == ["fine_tuned", "pretrained"] * 2
    folds = bands.score(data, NOISE, estimates, names, tuned=2, complete=False)
    assert [fold.index for fold in folds] == [0, 1, 0, 1, 0]


def test_bands_with_fewer_folds_count_like_the_others() -> None:
    counts = draw(specimen(4 * BAND_ROWS))
    data = filled(counts, 4 * BAND_ROWS)
    whole = score(BandFolds(0), data, Estimates(), "pretrained", "fine_tuned")
    some = [fold for n, fold in enumerate(whole) if n < 2 * FOLDS or fold.index < 1]
    raw, part = total_error(whole, "raw"), total_error(some, "raw")
    np.testing.assert_allclose(part.sum(1), raw.sum(1), rtol=0.03)
    columns = raw.shape[1] // 2
    np.testing.assert_array_equal(part[:, :columns], raw[:, :columns])
    # an error that is known on fewer photons is less certain
    assert (total_counting_variance(some) > 1.5 * total_counting_variance(whole)).all()
    error, variance = controlled_error(some, "fine_tuned", "pretrained")
    difference = error.sum(1) - controlled_error(whole, "fine_tuned", "pretrained")[0].sum(1)
    assert (np.abs(difference) < 4 * np.sqrt(variance)).all()
    assert (variance >= total_counting_variance(whole)).all()


def test_a_detector_that_turns_out_dead_has_every_band_scored_again() -> None:
    counts = draw(specimen(2 * BAND_ROWS))
    counts[3, :, BAND_ROWS:] = 0
    data, bands, estimates = filled(counts, BAND_ROWS), BandFolds(0), Estimates()
    score(bands, data, estimates)
    counts[3] = 0
    data.add_rows(0, counts, np.ones(counts.shape[2:], bool))
    data.estimate_gains()
    estimates.rows.clear()
    score(bands, data, estimates)
    assert len(estimates.rows) == 2 * FOLDS


def test_checks_see_the_bands_as_one_map() -> None:
    counts = draw(specimen(2 * BAND_ROWS + 5))
    data = filled(counts, counts.shape[2])
    folds = score(BandFolds(0), data, Estimates())
    whole = joined(folds)
    assert len(first_folds(folds)) == 3
    np.testing.assert_array_equal(whole.fold.seen.counts, data.sums("train").counts)
    np.testing.assert_array_equal(whole.fold.held.counts, data.sums("held").counts)
    assert whole.rates["pretrained"].shape == whole.variances["pretrained"].shape == data.sums().counts.shape
    assert np.allclose(whole.scales["pretrained"], 1, atol=0.05)


def test_of_a_tall_map_only_some_bands_are_scored_and_the_same_ones_while_it_grows() -> None:
    cols = LINE_PIXELS // (2 * BAND_ROWS * 4)  # four bands at most
    counts = np.zeros((1, 2, 16 * BAND_ROWS, cols), np.uint32)
    counts[:, :, ::7, ::11] = 3
    data, bands, seen = filled(counts, BAND_ROWS), BandFolds(0), []
    for k in (4, 8, 16):
        grow(data, counts, 0, k * BAND_ROWS)
        score(bands, data, Estimates(), n_folds=1)
        seen.append(set(bands._bands))
    assert [len(starts) for starts in seen] == [4, 4, 4]
    assert len(seen[0] & seen[1]) == 2 and len(seen[1] & seen[2]) == 2


def test_rows_that_arrive_while_a_band_is_scored_change_no_shape() -> None:
    counts = draw(specimen(2 * BAND_ROWS))
    data, bands, estimates = filled(counts, BAND_ROWS + 3), BandFolds(0), Estimates()
    score(bands, data, estimates)
    arrived = iter(range(BAND_ROWS + 3, 2 * BAND_ROWS, 2))

    def interrupted(name: str, sums: Sums) -> tuple[FloatArray, FloatArray | None]:
        row = next(arrived, None)
        if row is not None:
            grow(data, counts, row, row + 2)
            score(bands, data, estimates, n_folds=1)  # as the first rows of a run are
        return estimates(name, sums)

    for tuned in (1, 2, 3):
        folds = score(bands, data, interrupted, "pretrained", "fine_tuned", tuned=tuned)  # type: ignore[arg-type]
        for fold in folds:
            assert fold.rates["raw"].shape == fold.fold.held.counts.shape == fold.rates["pretrained"].shape


def test_other_rows_of_as_many_versions_are_scored_again() -> None:
    counts = draw(specimen(BAND_ROWS))
    data, bands, estimates = filled(counts, 6), BandFolds(0), Estimates()
    score(bands, data, estimates)
    data.add_rows(0, counts[:, :, :1], np.zeros((1, COLS), bool))
    data.row_versions[0] = 1
    grow(data, counts, 6, 7)
    estimates.rows.clear()
    folds = score(bands, data, estimates)
    assert len(estimates.rows) == FOLDS and folds[0].fold.held.counts.shape[1] == 6


def test_a_band_whose_scoring_was_interrupted_is_completed_later() -> None:
    counts = draw(specimen(BAND_ROWS))
    data, bands, estimates = filled(counts, BAND_ROWS), BandFolds(0), Estimates()
    score(bands, data, estimates, n_folds=1)
    calls = iter([True, False])

    def fails(name: str, sums: Sums) -> tuple[FloatArray, FloatArray | None]:
        if not next(calls):
            raise InterruptedError
        return estimates(name, sums)

    with pytest.raises(InterruptedError):
        score(bands, data, fails)  # type: ignore[arg-type]
    assert [fold.index for fold in score(bands, data, estimates)] == list(range(FOLDS))
