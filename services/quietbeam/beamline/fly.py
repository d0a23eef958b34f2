"""The fly-scan detector: it writes an HDF5 file (SWMR) row by row and announces what is in it."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np
import structlog
from event_model import compose_stream_resource

from quietbeam.core.errors import InputError

from .experiment import Experiment, Frame
from .pace import Exposure, Pace

log = structlog.get_logger()

MIMETYPE = "application/x-hdf5"
GROUP = "/entry/instrument/detector"


class FlyDetector:
    """Multi-element detector in a fly scan (bluesky: Preparable, Flyable, Pausable, WritesStreamAssets).

    A row is prepared, kicked off, and written frame by frame in the order of time while it lasts; frames become
    readable in bursts. One burst is announced per :meth:`collect_asset_docs`, so that the documents of a scan do
    not depend on timing. All calls can be repeated, as the RunEngine does after a pause: a row under way goes on, and
    what was announced since it was prepared is announced again, because the RunEngine counts again from there.

    Parameters
    ----------
    folder
        Where the file is made.
    snake
        True when odd rows are scanned backwards.
    burst
        Frames that become readable at once: None a whole row; n draws 1 to 2n-1 frames, which align with no row.
    """

    def __init__(
        self,
        experiment: Experiment,
        pace: Pace,
        folder: Path,
        *,
        snake: bool = True,
        burst: int | None = None,
        name: str = "xs",
    ) -> None:
        self.name = name
        self.parent = None
        self._experiment, self._pace, self.snake = experiment, pace, snake
        rows, cols = experiment.options.shape
        self._total = rows * cols
        self._stops = _burst_stops(self._total, cols, burst, experiment.options.seed)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder.resolve() / f"fly-{uuid.uuid4().hex}.h5"
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "xs_counts": ((len(experiment.detectors), len(experiment.lines)), "<u4"),
            "xs_live_time_s": ((len(experiment.detectors),), "<f4"),
            "i0_counts": ((), "<i8"),
        }
        self._file: h5py.File | None = None
        self._bundles: dict[str, Any] = {}
        self._lock = Lock()
        self._row: int | None = None
        self._status: Exposure | None = None
        self._thread: Thread | None = None
        self._going = Event()
        self._going.set()
        self._cancelled = False
        self._measured = 0
        self._burst: list[Frame] = []
        self._written: deque[list[Frame]] = deque()  # bursts in the file, not yet announced
        self._readable = 0
        self._announced = 0
        self._since_prepared: list[list[Frame]] = []

    # -- what it is -------------------------------------------------------------------------------------------------

    def describe_collect(self) -> dict[str, Any]:
        """Describe the three datasets; the shape leads with the frames per index (1), as areaDetector's writers do."""
        uri = f"file://localhost{self.path}"
        return {
            key: {
                "source": uri,
                "dtype": "array",
                "dtype_numpy": dtype,
                "shape": [1, *shape],
                "external": "STREAM:",
            }
            for key, (shape, dtype) in self._shapes.items()
        }

    def read_configuration(self) -> dict[str, Any]:
        """Return the names along the axes of ``xs_counts`` (frame, detector, line)."""
        now = time.time()
        return {
            f"{self.name}_detector_names": {"value": list(self._experiment.detectors), "timestamp": now},
            f"{self.name}_line_names": {"value": list(self._experiment.lines), "timestamp": now},
        }

    def describe_configuration(self) -> dict[str, Any]:
        """Describe :meth:`read_configuration`."""
        return {
            key: {
                "source": f"SIM:{key}",
                "dtype": "array",
                "dtype_numpy": f"<U{max(map(len, reading['value']))}",
                "shape": [len(reading["value"])],
            }
            for key, reading in self.read_configuration().items()
        }

    # -- life -------------------------------------------------------------------------------------------------------

    def stage(self) -> list[Any]:
        """Make the file and its datasets."""
        if self._file is None:
            self._file = h5py.File(self.path, "w", libver="latest")
            frames_per_chunk = self._experiment.options.shape[1]
            for key, (shape, dtype) in self._shapes.items():
                self._file.create_dataset(
                    f"{GROUP}/{key}",
                    shape=(0, *shape),
                    maxshape=(None, *shape),
                    chunks=(frames_per_chunk, *shape),
                    dtype=dtype,
                )
            self._file.swmr_mode = True
        return [self]

    def unstage(self) -> list[Any]:
        """Stop the row under way, if any, and close the file."""
        self._cancelled = True
        self._going.set()
        if self._thread is not None:
            self._thread.join()
        if self._file is not None:
            self._file.close()
            self._file = None
        return [self]

    def pause(self) -> None:
        """Hold the row where it is."""
        self._going.clear()

    def resume(self) -> None:
        """Go on."""
        self._going.set()

    def prepare(self, row: int) -> Exposure:
        """Choose the row to scan next; the same row again: the RunEngine was paused and rewinds."""
        if row == self._row:
            with self._lock:
                self._written.extendleft(reversed(self._since_prepared))
                self._announced -= sum(map(len, self._since_prepared))
        self._row, self._since_prepared = row, []
        return Exposure.done_at_once()

    def kickoff(self) -> Exposure:
        """Start the prepared row; a row that is under way or done stays as it is."""
        if self._row is None or self._file is None:
            raise InputError("the fly detector must be staged and prepared with a row before kickoff")
        cols = self._experiment.options.shape[1]
        under_way = self._status is not None and not self._status.done
        if not under_way and self._measured < (self._row + 1) * cols:
            self._status = Exposure()
            self._thread = Thread(target=self._scan_row, args=(self._row, self._status), name="fly-row", daemon=True)
            self._thread.start()
        return Exposure.done_at_once()

    def complete(self) -> Exposure:
        """Return the status of the row under way."""
        return self._status or Exposure.done_at_once()

    def _scan_row(self, row: int, status: Exposure) -> None:
        cols = self._experiment.options.shape[1]
        try:
            while self._measured < (row + 1) * cols:
                self._going.wait()
                if self._cancelled:
                    break
                along = self._measured - row * cols
                backwards = self.snake and row % 2 == 1
                frame = self._experiment.measure(row, cols - 1 - along if backwards else along)
                ends = self._pace.expose(self._experiment.options.dwell_s)
                if (left := ends - time.monotonic()) > 0:
                    time.sleep(left)
                self._burst.append(frame)
                self._measured += 1
                if self._measured in self._stops:
                    self._write_burst()
            status.finish()
        except Exception as error:
            log.exception("fly_row_failed", row=row)
            status.finish(error)

    def _write_burst(self) -> None:
        assert self._file is not None
        new, stop = self._burst, self._measured
        values = {
            "xs_counts": np.stack([f.counts for f in new]),
            "xs_live_time_s": np.stack([f.live_time_s for f in new]),
            "i0_counts": np.array([f.i0 for f in new]),
        }
        for key, value in values.items():
            dataset = self._file[f"{GROUP}/{key}"]
            dataset.resize(stop, axis=0)
            dataset[self._readable : stop] = value
            dataset.flush()
        with self._lock:
            self._written.append(new)
            self._readable = stop
        self._burst = []

    # -- documents --------------------------------------------------------------------------------------------------

    def get_index(self) -> int:
        """Return the number of frames that can be read from the file."""
        with self._lock:
            return self._readable

    @property
    def unannounced(self) -> bool:
        """True when the file holds frames that no document has announced."""
        return self.get_index() > self._announced

    def collect_asset_docs(self, index: int | None = None) -> Iterator[tuple[str, Any]]:
        """Yield the next burst: a stream_datum for each dataset, before the first one its stream_resource."""
        if not self.unannounced:
            return
        start, stop = self._announced, self._announced + len(self._written[0])
        if index is not None and stop > index:
            return
        self._announced = stop
        with self._lock:
            burst = self._written.popleft()
        self._since_prepared.append(burst)
        for frame in burst:
            self._experiment.report(frame)
        for key, (shape, _) in self._shapes.items():
            if key not in self._bundles:
                self._bundles[key] = compose_stream_resource(
                    mimetype=MIMETYPE,
                    uri=f"file://localhost{quote(str(self.path))}",
                    data_key=key,
                    parameters={"dataset": f"{GROUP}/{key}", "chunk_shape": [1, *shape]},
                )
                yield "stream_resource", self._bundles[key].stream_resource_doc
            yield "stream_datum", self._bundles[key].compose_stream_datum({"start": start, "stop": stop})


def _burst_stops(total: int, cols: int, burst: int | None, seed: int) -> frozenset[int]:
    if burst is None:
        return frozenset(range(cols, total + 1, cols))
    if burst < 1:
        raise InputError(f"burst {burst} must be at least 1 frame")
    stops = np.cumsum(np.random.default_rng([seed, 6]).integers(1, 2 * burst, total))
    return frozenset([*stops[stops < total].tolist(), total])
