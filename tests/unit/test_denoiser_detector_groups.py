"""Many detectors are summed in groups where their counts apart do not fit in memory."""

from __future__ import annotations

import numpy as np
import pytest

from quietbeam.core.model.types import RowBlock, RunInfo
from quietbeam.denoiser.live.detector_groups import DetectorGroups
from quietbeam.denoiser.live.window import too_large

GIB = 2**30


def info(n_det: int, kind: str = "counts", shape: tuple[int, int] = (1024, 1024), lines: int = 10) -> RunInfo:
    return RunInfo(
        uid="run-1",
        lines=tuple(f"l{j}" for j in range(lines)),
        detectors=tuple(f"det{k}" for k in range(n_det)),
        shape=shape,
        kind=kind,
    )


def test_detectors_that_fit_stay_apart() -> None:
    groups = DetectorGroups.fitting(info(4, shape=(64, 64)), 4 * GIB)
    assert groups == DetectorGroups.apart(info(4, shape=(64, 64)))
    row = RowBlock(counts=np.ones((4, 10, 64), np.uint32), measured=np.ones(64, bool))
    assert groups.summed(row) is row


def test_384_detectors_of_a_large_map_fit() -> None:
    groups = DetectorGroups.fitting(info(384), 4 * GIB)
    assert groups is not None and not too_large(info(384), 4 * GIB)
    assert 8 * len(groups.names) * 10 * 1024**2 <= GIB
    assert groups.names[0].startswith("det0 to det") and groups.names[-1].endswith("det383")
    assert "384 detectors" in groups.note


@pytest.mark.parametrize("kind", ["counts", "areas"])
def test_sums_keep_every_count_and_lack_what_a_member_lacks(kind: str) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(3, (10, 2, 8)).astype(np.uint32 if kind == "counts" else np.float32)
    live = rng.uniform(0.5, 1, (10, 8)).astype(np.float32)
    if kind == "areas":
        counts[7, 1, 3] = np.nan
    groups = DetectorGroups(("a", "b", "c"), (0, 4, 7), note="three groups")
    row = groups.summed(RowBlock(counts=counts, measured=np.ones(8, bool), live_time_s=live))
    assert row.counts.shape == (3, 2, 8) and row.live_time_s is not None
    np.testing.assert_array_equal(row.counts[0], counts[:4].sum(0))
    np.testing.assert_array_equal(row.counts[1], counts[4:7].sum(0))
    assert np.isnan(row.counts).sum() == (kind == "areas")
    np.testing.assert_allclose(row.live_time_s[2], live[7:].mean(0), rtol=1e-6)
    live[8], live[0:4, 2] = 0, 0  # a dead detector; a group in which none counted
    row = groups.summed(RowBlock(counts=counts, measured=np.ones(8, bool), live_time_s=live))
    assert row.live_time_s is not None and row.live_time_s[0, 2] == 0
    np.testing.assert_allclose(row.live_time_s[2], live[[7, 9]].mean(0), rtol=1e-6)


def test_counts_at_the_limit_of_32_bit_do_not_wrap() -> None:
    counts = np.full((3, 1, 4), 2**32 - 2, np.uint32)
    row = DetectorGroups(("all",), (0,), note="one").summed(RowBlock(counts=counts, measured=np.ones(4, bool)))
    assert (row.counts == 3 * (2**32 - 2)).all()


def test_a_map_that_is_too_large_as_a_sum_is_shown_raw() -> None:
    huge = info(4, shape=(16_384, 16_384))
    assert DetectorGroups.fitting(huge, 4 * GIB) is None
    assert "denoise.max_live_bytes" in too_large(huge, 4 * GIB)
    assert too_large(info(8, "areas", (2048, 2048)), GIB), "areas need four groups to hold out"
    assert not too_large(info(8, "counts", (1024, 1024)), GIB // 4 * 3)
