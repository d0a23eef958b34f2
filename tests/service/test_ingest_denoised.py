"""A map whose cells hold different numbers of samples, and some none, goes through ingest and the denoiser."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import numpy as np
from shapes_kit import LINES, Run, ingested, pipe_with, profile

from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.denoiser.live.stage import DenoiseStage


def test_a_spiral_is_denoised_where_it_has_points(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    n, side = 900, 28
    run = Run(extents=[[0.0, 27.0], [0.0, 27.0]], num_points=n, dwell=0.1)
    phi, radius = np.sqrt(np.arange(n)) * 3.3, 14.5 * np.sqrt(np.arange(n) / n)
    y, x = 13.5 + radius * np.sin(phi), 13.5 + radius * np.cos(phi)
    rate = np.stack([2 + 6 * (np.hypot(y - 12, x - 15) < 7), np.full(n, 3.0), 1 + x / 9])
    counts = run.rng.poisson(rate.T[:, None, :] * np.array([0.8, 1.2])[:, None]).astype(int)
    names = [f"det{d}_{line}" for d in (1, 2) for line in LINES]
    descriptor = run.stream("primary", {name: {} for name in [*names, "x", "y"]})
    for i in range(n):
        run.event(descriptor, dict(zip(names, counts[i].ravel().tolist(), strict=True)) | {"x": x[i], "y": y[i]})
    run.stop({"primary": n})
    geometry = {"shape": [side, side], "extents": {"start": "extents"}, "positions": {"slow": "y", "fast": "x"}}
    keys = {"keys": r"^(?P<detector>det\d+)_(?P<line>[A-Z]\w+)$"}
    budgets = {"final_budget": timedelta(seconds=2), "live_budget": timedelta(seconds=1), "device": "cpu"}
    settings = settings.model_copy(update={"denoise": settings.denoise.model_copy(update=budgets)})
    pipe = pipe_with(
        settings, redis, profile(tmp_path, counts=keys, geometry=geometry | {"dwell_s": {"start": "dwell"}})
    )
    there = ingested(pipe, run)
    measured = pipe.buffer(run.uid).measured()
    assert 0.4 < measured.mean() < 0.95
    worker = DenoiseStage(settings, redis, owner="test")
    deadline = time.monotonic() + 100
    while pipe.status(run.uid).denoise_state not in ("final", "failed", "raw_only"):
        assert time.monotonic() < deadline
        worker.step()
    worker.close()
    status, buffer = pipe.status(run.uid), pipe.buffer(run.uid)
    assert status.denoise_state == "final", status.denoise_reason
    raw, denoised = buffer.read_map("raw"), buffer.read_map("denoised")
    assert np.isfinite(denoised).all() and not denoised[:, ~measured].any() and not raw[:, ~measured].any()
    # Counts per cell follow its live time; the map is per usual exposure, so a cell hit twice is not twice as bright.
    exposure = buffer.read_live_time_s()[0] / 0.1
    twice, once = exposure > 1.5, (exposure > 0.5) & (exposure < 1.5)
    flat = LINES.index("Fe_Ka")
    assert there[:, flat][:, twice].sum(0).mean() > 1.7 * there[:, flat][:, once].sum(0).mean()
    assert abs(raw[flat][twice].mean() / raw[flat][once].mean() - 1) < 0.15
    assert status.evidence is not None
    pipe.stage.close()
