"""Samples on a grid, without documents and without servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import RunInfo
from quietbeam.ingest.documents.delivery import Pending
from quietbeam.ingest.frames.values import Frames
from quietbeam.ingest.profile.geometry import Geometry
from quietbeam.ingest.rows.grid import GridAssembler


def test_a_sample_outside_the_grid_is_counted_once_however_often_its_block_is_written(tmp_path: Path) -> None:
    info = RunInfo(uid="r", lines=("Fe_Ka",), detectors=("det1",), shape=(2, 3), has_live_time=True, dwell_s=0.1)
    geometry = Geometry(shape=(2, 3), step=(1.0, 1.0), origin=(0.0, 0.0), gridded=True, dwell_s=0.1)
    rows = GridAssembler(RunBuffer.create(tmp_path, info), geometry, has_live_time=False, max_samples=100)
    for number, (slow, fast) in enumerate([(0.0, 0.0), (0.0, 7.0), (1.1, 2.0), (1.0, 1.9)]):
        frames = Frames(
            good=np.ones(1, bool),
            counts=np.full((1, 1, 1), 5, np.uint32),
            slow=np.array([slow]),
            fast=np.array([fast]),
        )
        rows.put(number, frames, Pending(0, b""), now=float(number))
        rows.flush(float(number), everything=True)
    assert (rows.samples_measured, rows.outside) == (4, 1)
    np.testing.assert_array_equal(rows.measured, [[True, False, False], [False, False, True]])
