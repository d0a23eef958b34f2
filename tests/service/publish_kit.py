"""For tests of publishing: a real Tiled server in a process, a run whose rows are made by hand."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.evidence import LineEvidence, RunEvidence
from quietbeam.core.model.types import RowBlock, RunInfo, RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.publish import PublishStage

LINES = ("Fe_Ka", "Zn_Ka")
SHAPE = (12, 10)
KEY = "publishtestkey"


def wait_until(predicate: Callable[[], Any], timeout_s: float = 30.0, what: str = "the condition") -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.02)
    return value


class TiledProcess:
    """The embedded Tiled server as `quietbeam up` runs it; can be killed and started again with its data.

    Without `streaming` it is Tiled's own server, with a catalog and no streaming cache.
    """

    def __init__(self, folder: Path, *, streaming: bool = True) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "tiled.yaml"
        self._config.write_text(
            yaml.safe_dump(
                {
                    "data_dir": str(folder / "tiled-data"),
                    "embedded": {"tiled_port": self.port},
                    "tiled": {"api_key": KEY},
                }
            )
        )
        command = ["-m", "quietbeam", "_tiled", "-c", str(self._config)]
        if not streaming:
            storage = {"uri": f"sqlite:///{folder}/c.db", "writable_storage": [str(folder), f"duckdb:///{folder}/t.db"]}
            tree = {"path": "/", "tree": "catalog", "args": {**storage, "init_if_not_exists": True}}
            config = {"trees": [tree], "authentication": {"single_user_api_key": KEY}}
            self._config.write_text(yaml.safe_dump(config))
            command = ["-m", "tiled", "serve", "config", str(self._config), "--port", str(self.port)]
        self._command = [sys.executable, *command]
        self._log = folder / "tiled.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self.port}/api/v1"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_until(ready, 200, "Tiled answering")
        except BaseException:
            self.kill()
            raise

    @property
    def crashed(self) -> bool:
        """True when the server ended by itself: DuckDB, in which Tiled keeps tables, does now and then after a kill."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)


class Run:
    """A run whose rows are measured and denoised by hand."""

    def __init__(
        self, settings: Settings, redis: Connection, uid: str, shape: tuple[int, int] = SHAPE, **more: Any
    ) -> None:
        info = RunInfo(uid=uid, lines=LINES, detectors=("det1", "det2"), shape=shape, scan_id=7, plan="raster", **more)
        self.redis, self.info, self.version = redis, info, 0
        self.buffer = RunBuffer.create(settings.runs_dir, info)
        self.rng = np.random.default_rng(0)
        runs.register_run(redis, uid, time.time())
        runs.write_status(redis, uid, info=info, state=RunState.RUNNING)

    def rows(self, first: int, stop: int, *, wake: bool = True, final: bool = False) -> None:
        cols = self.info.shape[1]
        for row in range(first, stop):
            counts = self.rng.poisson(3, (2, len(LINES), cols)).astype("uint32")
            self.buffer.write_row(row, RowBlock(counts=counts, measured=np.ones(cols, bool)))
        maps = self.rng.random((3, len(LINES), stop - first, cols)).astype("float32")
        self.version += 1
        self.buffer.write_maps(first, *maps, version=self.version)
        self.note(first, stop, final=final, wake=wake)

    def note(self, first: int, stop: int, *, final: bool = False, wake: bool = True) -> None:
        evidence = RunEvidence(
            rows=stop,
            lines=tuple(
                LineEvidence(line=x, estimator="fine_tuned", verdict="improved", dwell_gain=3.5) for x in LINES
            ),
            model="base",
            model_sha256="ab" * 32,
            final=final,
        )
        self.buffer.update_map_attributes(version=self.version, final=final, evidence=evidence.to_dict())
        runs.write_status(
            self.redis,
            self.info.uid,
            maps_version=self.version,
            rows_measured=stop,
            evidence=evidence,
            denoise_state="final" if final else "live",
        )
        if wake:
            fields = {"first_row": first, "stop_row": stop, "version": self.version, "final": int(final)}
            self.redis.xadd(keys.MAPS, {"run": self.info.uid, **fields})

    def finish(self, *, wake: bool = True) -> None:
        runs.write_status(self.redis, self.info.uid, state=RunState.COMPLETE)
        self.rows(0, self.info.shape[0], wake=wake, final=True)

    def status(self) -> runs.RunStatus:
        status = runs.read_status(self.redis, self.info.uid)
        assert status is not None
        return status

    def assert_equal(self, client: Any) -> None:
        node = client["quietbeam"][self.info.uid]
        for kind in ("raw", "denoised", "uncertainty"):
            np.testing.assert_array_equal(node[kind].read(), self.buffer.read_map(kind))
        np.testing.assert_array_equal(node["measured"].read(), self.buffer.measured())


def turn(stage: PublishStage, until: Callable[[], Any], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, f"not reached; {stage.detail()}"
        stage.step()
