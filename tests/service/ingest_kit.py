"""Documents of small scans with known counts, and a way to run the ingest stage on them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np
import numpy.typing as npt

from quietbeam.buffer import RunBuffer
from quietbeam.core import codec
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.runs import RunStatus
from quietbeam.ingest.stage.service import IngestStage
from quietbeam.ingest.transports import DocumentSource, MemorySource

LINES = ("P_Ka", "Fe_Ka", "Zn_Ka")
Doc = tuple[str, dict[str, Any]]


class Scan:
    """A scan of the simulated profile; `docs` are its documents in order."""

    def __init__(
        self,
        rows: int = 4,
        cols: int = 5,
        *,
        detectors: int = 2,
        seed: int = 0,
        snake: bool = False,
        uid: str | None = None,
        **start: Any,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = rows, cols
        self.detectors = tuple(f"det{i + 1}" for i in range(detectors))
        self.snake = snake
        self.counts = self.rng.poisson(4, (detectors, len(LINES), rows, cols)).astype(np.uint32)
        self.i0 = self.rng.uniform(0.9, 1.1, (rows, cols)).astype(np.float32)
        self.uid = uid or str(uuid.UUID(bytes=self.rng.bytes(16), version=4))
        self.keys = [f"xs_{d}_{line}" for d in self.detectors for line in LINES]
        metadata = {
            "beamline_id": "quietbeam-simulated",
            "plan_name": "grid_scan",
            "shape": [rows, cols],
            "snaking": [False, snake],
            "extents": [[0.0, rows - 1.0], [10.0, 10.0 + 2 * (cols - 1)]],
            "num_points": rows * cols,
            "dwell_s": 0.01,
        }
        self._run = event_model.compose_run(uid=self.uid, metadata={**metadata, **start})
        self.start: Doc = ("start", {k: v for k, v in self._run.start_doc.items() if v is not None})

    def descriptor(self, **data_keys: Any) -> Doc:
        """The descriptor of stream primary."""
        entries = data_keys or {
            key: {"source": "test", "dtype": "number", "shape": []} for key in [*self.keys, "i0", "motor"]
        }
        self._descriptor = self._run.compose_descriptor(data_keys=entries, name="primary")
        return "descriptor", dict(self._descriptor.descriptor_doc)

    def place(self, index: int) -> tuple[int, int]:
        row, col = divmod(index, self.shape[1])
        return row, self.shape[1] - 1 - col if self.snake and row % 2 else col

    def values(self, index: int) -> dict[str, Any]:
        row, col = self.place(index)
        data = dict(zip(self.keys, self.counts[:, :, row, col].ravel().tolist(), strict=True))
        return data | {"i0": float(self.i0[row, col]), "motor": 0.5}

    def event(self, index: int, **changes: Any) -> Doc:
        """The event of the frame measured as number `index` (from 0)."""
        data = self.values(index) | changes
        return self.event_of(index + 1, data)

    def event_of(self, seq_num: int, data: dict[str, Any]) -> Doc:
        return "event", {
            "descriptor": self._descriptor.descriptor_doc["uid"],
            "seq_num": seq_num,
            "uid": str(uuid.UUID(bytes=self.rng.bytes(16), version=4)),
            "time": 1.0,
            "data": data,
            "timestamps": dict.fromkeys(data, 1.0),
            "filled": {},
        }

    def row_event(self, row: int) -> Doc:
        """One event with a 1-D array per key, in the order of the scan."""
        block = self.counts[:, :, row, :]
        i0 = self.i0[row]
        if self.snake and row % 2:
            block, i0 = block[:, :, ::-1], i0[::-1]
        data: dict[str, Any] = dict(zip(self.keys, block.reshape(len(self.keys), -1), strict=True))
        return self.event_of(row + 1, data | {"i0": i0, "motor": 0.1})

    def page(self, first: int, stop: int) -> Doc:
        """An event page of the frames [first, stop)."""
        events = [self.event(i)[1] for i in range(first, stop)]
        return "event_page", dict(event_model.pack_event_page(*events))

    def stop(self, exit_status: str = "success", reason: str = "", events: int | None = None) -> Doc:
        n = self.shape[0] * self.shape[1] if events is None else events
        return "stop", {
            "uid": str(uuid.uuid4()),
            "run_start": self.uid,
            "time": 2.0,
            "exit_status": exit_status,
            "reason": reason,
            "num_events": {"primary": n},
        }

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]

    def docs(self) -> list[Doc]:
        """The whole scan, one event per pixel."""
        return [self.start, self.descriptor(), *(self.event(i) for i in range(self.pixels)), self.stop()]


class FlyScan(Scan):
    """A fly scan into an HDF5 file, announced by stream documents."""

    def __init__(self, path: Path, *args: Any, leading_one: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.path = path
        ones = (1,) if leading_one else ()
        n_det = len(self.detectors)
        self.file = h5py.File(path, "w", libver="latest")
        self.sets = {
            "xs_counts": self._make("xs_counts", (*ones, n_det, len(LINES)), "u4"),
            "i0_counts": self._make("i0_counts", (), "f8"),
            "xs_live_time_s": self._make("xs_live_time_s", (n_det,), "f8"),
        }
        self.file.swmr_mode = True
        self.resources = {key: str(uuid.UUID(bytes=self.rng.bytes(16), version=4)) for key in self.sets}

    def _make(self, name: str, shape: tuple[int, ...], dtype: str) -> h5py.Dataset:
        return self.file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(1, *shape))

    def head(self) -> list[Doc]:
        """start, descriptor, stream resources."""
        entry = {"source": "file", "dtype": "array", "external": "STREAM:", "shape": [len(self.detectors), len(LINES)]}
        configuration = {
            "xs": {
                "data": {"xs_detector_names": list(self.detectors), "xs_line_names": list(LINES)},
                "timestamps": {"xs_detector_names": 0.0, "xs_line_names": 0.0},
                "data_keys": {
                    key: {"source": "test", "dtype": "array", "shape": [n]}
                    for key, n in (("xs_detector_names", len(self.detectors)), ("xs_line_names", len(LINES)))
                },
            }
        }
        self._descriptor = self._run.compose_descriptor(
            data_keys=dict.fromkeys(self.sets, entry),
            name="primary",
            configuration=configuration,
            object_keys={"xs": list(self.sets)},
        )
        return [self.start, ("descriptor", dict(self._descriptor.descriptor_doc)), *map(self.resource, self.sets)]

    def resource(self, key: str, uri: str | None = None) -> Doc:
        return "stream_resource", {
            "uid": self.resources[key],
            "run_start": self.uid,
            "data_key": key,
            "mimetype": "application/x-hdf5",
            "uri": uri or f"file://localhost{self.path}",
            "parameters": {"dataset": f"/{key}", "chunk_shape": [1]},
        }

    def write(self, stop: int) -> None:
        """Let the file grow to `stop` frames."""
        first = self.sets["xs_counts"].shape[0]
        for index in range(first, stop):
            row, col = self.place(index)
            values = {
                "xs_counts": self.counts[:, :, row, col],
                "i0_counts": self.i0[row, col],
                "xs_live_time_s": np.full(len(self.detectors), 0.009),
            }
            for key, value in values.items():
                data = self.sets[key]
                data.resize(index + 1, axis=0)
                data[index] = value if data.ndim == np.ndim(value) + 1 else np.asarray(value)[None]
        for data in self.sets.values():
            data.flush()

    def datums(self, first: int, stop: int) -> list[Doc]:
        return [
            (
                "stream_datum",
                {
                    "uid": f"{uid}/{first}-{stop}",
                    "stream_resource": uid,
                    "descriptor": self._descriptor.descriptor_doc["uid"],
                    "indices": {"start": first, "stop": stop},
                    "seq_nums": {"start": first + 1, "stop": stop + 1},
                },
            )
            for uid in self.resources.values()
        ]


class Pipe:
    """The ingest stage with a source that tests feed."""

    def __init__(self, settings: Settings, connection: Connection, source: DocumentSource | None = None) -> None:
        self.settings, self.redis = settings, connection
        self.source = source if source is not None else MemorySource()
        self.stage = IngestStage(settings, connection, [self.source])

    def send(self, docs: Iterable[Doc], run: str = "") -> None:
        assert isinstance(self.source, MemorySource)
        for name, doc in docs:
            self.source.send(name, codec.pack(doc), run)

    def until(self, predicate: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Step until `predicate()`; the deadline fails the test."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < deadline, "ingest did not get there"
            self.stage.step()

    def drain(self, timeout_s: float = 20.0) -> None:
        """Step until every delivered document is acknowledged."""
        assert isinstance(self.source, MemorySource)
        source = self.source
        while self.stage.step():
            pass
        self.until(lambda: not self.stage.step() and not source.unacknowledged, timeout_s)

    def status(self, uid: str) -> RunStatus:
        status = runs.read_status(self.redis, uid)
        assert status is not None
        return status

    def state(self, uid: str) -> RunState | None:
        """The state that others see, or None when Redis does not know the run."""
        status = runs.read_status(self.redis, uid)
        return status.state if status is not None else None

    def buffer(self, uid: str) -> RunBuffer:
        return RunBuffer.open(self.settings.runs_dir, uid)

    def counts(self, uid: str) -> npt.NDArray[Any]:
        return self.buffer(uid).read_counts()

    def quarantined(self) -> list[dict[str, str]]:
        entries: Any = self.redis.xrange(keys.QUARANTINE)
        return [{k.decode(): v.decode(errors="replace") for k, v in f.items() if k != b"doc"} for _, f in entries]

    def die(self) -> None:
        """Abandon the stage as a kill would: nothing is flushed, nothing acknowledged; the lock goes."""
        self.stage._lock.release()

    def again(self) -> Pipe:
        """Return a new stage on the same data; the source delivers again what was not acknowledged."""
        self.source.reset()
        return Pipe(self.settings, self.redis, self.source)


def same(pipe: Pipe, scan: Scan) -> None:
    """The buffer holds the scan's counts bit for bit."""
    np.testing.assert_array_equal(pipe.counts(scan.uid), scan.counts)
    assert pipe.buffer(scan.uid).measured().all()
