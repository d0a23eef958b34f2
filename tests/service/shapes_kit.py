"""Runs of many document shapes with known counts, and profiles that read them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import yaml
from ingest_kit import Doc, Pipe

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import IngestSettings, Settings
from quietbeam.core.wire.bus import Connection

LINES = ("P_Ka", "Fe_Ka", "Zn_Ka")
ENERGIES_KEV = (2.0127, 6.3996, 8.6313)
CHANNELS = 1024
CALIBRATIONS = ((0.0, 0.0100), (-0.02, 0.0101), (0.03, 0.0099))


class Run:
    """A run with any start document and streams; `docs` grows as the methods are called."""

    def __init__(self, rows: int = 4, cols: int = 5, *, detectors: int = 2, seed: int = 0, **start: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = rows, cols
        self.counts = self.rng.poisson(6, (detectors, len(LINES), rows, cols)).astype(np.uint32)
        self.uid = str(uuid.UUID(bytes=self.rng.bytes(16), version=4))
        self.docs: list[Doc] = [("start", {"uid": self.uid, "time": 1.0, "shape": [rows, cols], **start})]
        self._seq: dict[str, int] = {}

    def new(self) -> str:
        return str(uuid.UUID(bytes=self.rng.bytes(16), version=4))

    def stream(self, name: str, keys: Mapping[str, Any], configuration: Mapping[str, Any] | None = None) -> str:
        """Add a descriptor and return its uid."""
        uid = self.new()
        entries = {k: {"source": "t", "dtype": "number", "shape": [], **v} for k, v in keys.items()}
        config = {"d": {"data": dict(configuration or {}), "timestamps": {}, "data_keys": {}}}
        doc = {"uid": uid, "run_start": self.uid, "time": 1.0, "name": name, "data_keys": entries}
        self.docs.append(("descriptor", doc | {"configuration": config, "object_keys": {}, "hints": {}}))
        return uid

    def event(self, descriptor: str, data: Mapping[str, Any], seq_num: int | None = None) -> None:
        self._seq[descriptor] = seq_num or self._seq.get(descriptor, 0) + 1
        doc = {"uid": self.new(), "descriptor": descriptor, "seq_num": self._seq[descriptor], "time": 1.0}
        self.docs.append(("event", doc | {"data": dict(data), "timestamps": dict.fromkeys(data, 1.0), "filled": {}}))

    def page(self, descriptor: str, data: Mapping[str, list[Any]]) -> None:
        n = len(next(iter(data.values())))
        first = self._seq.get(descriptor, 0) + 1
        self._seq[descriptor] = first + n - 1
        doc = {"descriptor": descriptor, "seq_num": list(range(first, first + n)), "time": [1.0] * n}
        doc |= {"uid": [self.new() for _ in range(n)], "data": dict(data), "filled": {}}
        self.docs.append(("event_page", doc | {"timestamps": {k: [1.0] * n for k in data}}))

    def resource(self, spec: str, path: Path, **kwargs: Any) -> str:
        uid = self.new()
        doc = {"uid": uid, "run_start": self.uid, "spec": spec, "root": "/", "path_semantics": "posix"}
        self.docs.append(("resource", doc | {"resource_path": str(path).lstrip("/"), "resource_kwargs": kwargs}))
        return uid

    def datum(self, resource: str, **kwargs: Any) -> str:
        uid = f"{resource}/{self.new()}"
        self.docs.append(("datum", {"datum_id": uid, "resource": resource, "datum_kwargs": kwargs}))
        return uid

    def stop(self, events: Mapping[str, int] | None = None, exit_status: str = "success") -> None:
        doc = {"uid": self.new(), "run_start": self.uid, "time": 2.0, "exit_status": exit_status, "reason": ""}
        self.docs.append(("stop", doc | {"num_events": dict(events or {})}))


def spectra_of(counts: npt.NDArray[Any], seed: int = 1) -> npt.NDArray[np.uint32]:
    """Return spectra (..., detector, channel) that hold `counts` (..., detector, line) close to the lines' energies."""
    rng = np.random.default_rng(seed)
    out = np.zeros((*counts.shape[:-1], CHANNELS), np.uint32)
    for index in np.ndindex(*counts.shape[:-1]):
        offset, width = CALIBRATIONS[index[-1]]
        for n, energy in zip(counts[index], ENERGIES_KEV, strict=True):
            channels = np.rint((energy + rng.uniform(-0.03, 0.03, int(n)) - offset) / width).astype(int)
            np.add.at(out[index], channels, 1)
    return out


def write(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Write an HDF5 file of row or detector data."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=(1, *values.shape[1:]))
    return path


def profile(folder: Path, **sections: Any) -> Path:
    """Write a profile and return its path; what is not given is the plainest."""
    path = folder / "mine.yaml"
    geometry = {"shape": {"start": "shape"}} | sections.pop("geometry", {})
    path.write_text(yaml.safe_dump({"name": "mine", "geometry": geometry, **sections}))
    return path


def pipe_with(settings: Settings, connection: Connection, mine: Path | str, **changes: Any) -> Pipe:
    """Return an ingest stage that reads runs by one profile."""
    values = {**settings.ingest.model_dump(), "profiles": (str(mine),), **changes}
    return Pipe(settings.model_copy(update={"ingest": IngestSettings(**values)}), connection)


def ingested(pipe: Pipe, run: Run, *, state: RunState = RunState.COMPLETE) -> npt.NDArray[Any]:
    """Send a run through and return its counts; its state must be `state`."""
    pipe.send(run.docs)
    pipe.drain(60)
    status = pipe.status(run.uid)
    assert status.state is state, (status.state, status.reason, status.warnings)
    return pipe.counts(run.uid)
