"""A growing run without the other stages: Poisson counts of a drawn specimen, written the way ingest and denoise do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from quietbeam.buffer import MapHistory, RunBuffer
from quietbeam.core.model.evidence import DetectorEvidence, Estimator, LineEvidence, RunEvidence
from quietbeam.core.model.types import RowBlock, RunInfo, RunState
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection, emit

LINES = ("P_K", "S_K", "Cl_K", "K_K", "Ca_K", "Fe_K", "Cu_K", "Zn_K")

ESTIMATORS: tuple[Estimator, ...] = ("combined", "fine_tuned", "smoother")


def specimen(shape: tuple[int, int], n_line: int, seed: int) -> np.ndarray[Any, Any]:
    """Return expected counts (line, row, col): a cell with nucleus, vesicles and filaments, different in each line."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1.05 : 0.95 : shape[1] * 1j]
    body = 1 / (1 + np.exp(25 * (np.hypot(x * 1.1 + 0.15 * y, y * 1.25) - 0.78 - 0.07 * np.sin(5 * np.arctan2(y, x)))))
    nucleus = 1 / (1 + np.exp(40 * (np.hypot(x + 0.18, (y - 0.1) * 1.15) - 0.26)))
    spots = np.zeros((n_line, *shape))
    for _ in range(60):
        line, r0, c0 = rng.integers(n_line), rng.normal(0, 0.34), rng.normal(0, 0.34)
        spots[line] += rng.uniform(0.6, 2.4) * np.exp(-((x - c0) ** 2 + (y - r0) ** 2) / rng.uniform(0.0006, 0.004))
    waves = 0.5 + 0.5 * np.sin(14 * x + 6 * np.sin(3 * y) + np.arange(n_line)[:, None, None])
    level = rng.uniform(0.7, 1.3, n_line)[:, None, None] * np.geomspace(40, 1.5, n_line)[:, None, None]
    inner = np.linspace(1.6, 0.1, n_line)[:, None, None]
    return level * (0.04 + body * (0.45 + 0.35 * waves) + inner * nucleus + spots * body)


class SyntheticRun:
    """Writes rows, maps, states and events of one run.

    Parameters
    ----------
    root, connection
        Folder of the run buffers; Redis.
    """

    def __init__(
        self,
        root: Path,
        connection: Connection,
        *,
        uid: str = "0f5e1c2a-synthetic",
        shape: tuple[int, int] = (96, 96),
        lines: tuple[str, ...] = LINES,
        detectors: int = 4,
        scan_id: int = 1042,
        seed: int = 7,
        time_start: float | None = None,
        step: tuple[float, float] = (0.25, 0.25),
    ) -> None:
        self.uid, self.shape = uid, shape
        self._redis = connection
        self._rng = np.random.default_rng(seed)
        self.truth = specimen(shape, len(lines), seed)
        self.info = RunInfo(
            uid=uid,
            lines=lines,
            detectors=tuple(f"det{n + 1}" for n in range(detectors)),
            shape=shape,
            scan_id=scan_id,
            plan="fly_raster",
            profile="simulated",
            step=step,
            origin=(-12.0, -8.0),
            dwell_s=0.02,
            snake=True,
            time_start=time.time() if time_start is None else time_start,
            metadata={"plan_name": "fly_raster", "sample": "frozen cell 7"},
        )
        self.buffer = RunBuffer.create(root, self.info)
        self.rows = self.version = 0
        runs.register_run(connection, uid, self.info.time_start)
        runs.write_status(connection, uid, info=self.info, state=RunState.RUNNING, rows_measured=0, pixels_measured=0)
        emit(connection, "run", uid, state="running")

    def add_rows(self, n: int = 1, *, cols: int | None = None) -> None:
        """Measure `n` more rows (only the first `cols` pixels of each, when given)."""
        n_line, n_det = len(self.info.lines), len(self.info.detectors)
        for row in range(self.rows, min(self.rows + n, self.shape[0])):
            measured = np.arange(self.shape[1]) < (self.shape[1] if cols is None else cols)
            rate = self.truth[:, row, :] / n_det
            counts = self._rng.poisson(np.broadcast_to(rate, (n_det, n_line, self.shape[1]))) * measured
            self.buffer.write_row(row, RowBlock(counts=counts.astype(np.uint32), measured=measured))
        self.rows = min(self.rows + n, self.shape[0])
        measured = self.buffer.measured()
        runs.write_status(
            self._redis,
            self.uid,
            rows_measured=int(measured.all(axis=1).sum()),
            pixels_measured=int(measured.sum()),
            last_document_at=time.time(),
        )
        emit(self._redis, "row", self.uid, row=self.rows - 1)

    def denoise(self, *, final: bool = False, improved: bool = True) -> None:
        """Write the maps of the rows so far; the last line always keeps raw."""
        raw = self.buffer.read_counts().sum(axis=0)[:, : self.rows].astype(np.float32)
        truth = self.truth[:, : self.rows].astype(np.float32)
        denoised = truth + 0.04 * np.sqrt(truth) * self._rng.normal(size=truth.shape).astype(np.float32)
        if improved:
            denoised[-1] = raw[-1]
        else:
            denoised[:] = raw
        uncertainty = 0.35 * np.sqrt(truth + 0.1)
        chi2 = (raw - denoised) ** 2 / np.maximum(denoised, 0.1)
        self.buffer.write_maps(0, raw, denoised, uncertainty, chi2=chi2)
        self.version += 1
        evidence = self.evidence(final=final, improved=improved)
        self.buffer.update_map_attributes(
            version=self.version, rows=self.rows, final=final, evidence=evidence.to_dict()
        )
        MapHistory(self.buffer).add(self.version, evidence, self.buffer.measured(), final=final)
        runs.write_status(
            self._redis,
            self.uid,
            denoise_state="final" if final else "live",
            denoise_rows=self.rows,
            denoise_lag_s=0.21,
            maps_version=self.version,
            evidence=evidence,
        )
        emit(self._redis, "map", self.uid, version=self.version, rows=self.rows, final=final)

    def evidence(self, *, final: bool, improved: bool) -> RunEvidence:
        """Return plausible evidence for the rows so far."""
        lines = []
        for n, name in enumerate(self.info.lines):
            good = improved and n < len(self.info.lines) - 1
            gain = 1 + (4 + 1.3 * n) * min(1.0, self.rows / 40)
            lines.append(
                LineEvidence(
                    line=name,
                    estimator=ESTIMATORS[n % len(ESTIMATORS)] if good else "raw",
                    verdict="improved" if good else "kept_raw",
                    dwell_gain=gain if good else 1.0,
                    dwell_gain_low=gain * 0.86 if good else None,
                    dwell_gain_high=gain * 1.15 if good and n else None,
                    candidates={"smoother": gain * 0.5, "pretrained": gain * 0.8},
                    total_ratio=1.002,
                    slope=0.99,
                    mean_counts=float(self.truth[n].mean()),
                    residual_chi2=1.02 if n != 2 else 1.4,
                    residual_flag=n == 2,
                    residual_worst_row=4,
                    residual_worst_col=9,
                    frc_pixels=4.2,
                    frc_raw_pixels=9.5,
                    coverage_68=0.67,
                    excluded_detectors={"det3": "no counts in this line"} if n == 5 else {},
                )
            )
        return RunEvidence(
            rows=self.rows,
            lines=tuple(lines),
            detectors=tuple(
                DetectorEvidence(
                    detector=name,
                    gains={line: 0.25 - 0.1 * (k == 1) for n, line in enumerate(self.info.lines) if (k, n) != (2, 5)},
                    total_counts=1000.0 - 300 * (k == 1),
                    drift=0.01 * k,
                )
                for k, name in enumerate(self.info.detectors)
            ),
            loss=1.0 + 1 / (1 + self.rows),
            model="quietbeam-1",
            model_sha256="ab" * 32,
            fine_tune_steps=12 * self.rows,
            fine_tune_s=0.4 * self.rows,
            final=final,
            notes=("det3 sees no counts in Fe_K; it was left out for this line.",),
        )

    def finish(self, state: RunState = RunState.COMPLETE, reason: str = "") -> None:
        """End the run."""
        values: dict[str, Any] = {"state": state, "reason": reason, "time_stop": time.time()}
        self.buffer.update_state({**values, "state": str(state)})
        runs.write_status(self._redis, self.uid, **values)
        emit(self._redis, "run", self.uid, state=str(state))
