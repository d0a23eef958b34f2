"""Frames that stream documents announce, read from detector files as soon as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quietbeam.core.errors import DataNotReadyError, DocumentError

from ..documents.delivery import Pending
from ..documents.model import StreamDatum, StreamResource
from ..profile.layout import Layout
from .axes import conform
from .detector_files import DetectorFiles
from .values import Frames, combine

Put = Callable[[int, Frames, Pending, str], None]
"""``put(index, frames, pending, where)``; raises DocumentError when frames lie outside the map."""


@dataclass(slots=True)
class _Announced:
    datum: StreamDatum
    pending: Pending
    deadline: float
    done: int


class FileFrames:
    """Reads announced frames of one run from detector files; never blocks.

    Parameters
    ----------
    files
        Open detector files, shared by the runs.
    timeout_s
        How long announced data may be missing from its file.
    """

    def __init__(self, files: DetectorFiles, timeout_s: float) -> None:
        self._files, self._timeout_s = files, timeout_s
        self._resources: dict[str, StreamResource] = {}
        self._waiting: list[_Announced] = []

    def with_same_resources(self) -> FileFrames:
        """Return another reader, for another map of the run, with the same resources."""
        other = FileFrames(self._files, self._timeout_s)
        other._resources = self._resources
        return other

    def __len__(self) -> int:
        return len(self._waiting)

    def add_resource(self, resource: StreamResource) -> None:
        """Add a resource; a second one of the same uid is ignored."""
        self._resources.setdefault(resource.uid, resource)

    def announce(self, datum: StreamDatum, pending: Pending, now: float) -> None:
        """Add a datum; its document is retained until the frames are read or given up."""
        pending.retain()
        self._waiting.append(_Announced(datum, pending, now + self._timeout_s, datum.first))

    def poll(self, layout: Layout, put: Put, now: float) -> Iterator[str]:
        """Read the announced frames that are in their files; yield why others were given up.

        Raises
        ------
        OSError
            From `put`; the frames are still announced.
        """
        announcements, self._waiting = self._waiting, []
        for i, announced in enumerate(announcements):
            before = announced.done
            try:
                self._read(layout, announced, put)
            except DataNotReadyError as error:
                if announced.done > before:
                    announced.deadline = now + self._timeout_s
                if now < announced.deadline:
                    self._waiting.append(announced)
                    continue
                yield f"{error}; waited {self._timeout_s:g} s (ingest.file_timeout)"
            except DocumentError as error:
                yield str(error)
            except OSError:
                self._waiting += announcements[i:]
                raise
            announced.pending.release()

    def _read(self, layout: Layout, announced: _Announced, put: Put) -> None:
        datum = announced.datum
        resource = self._resources.get(datum.resource)
        if resource is None:
            raise DataNotReadyError(f"stream_resource {datum.resource} did not come")
        if resource.data_key not in layout.datasets:
            return
        role, dataset = layout.datasets[resource.data_key]
        width = layout.geometry.shape[1]
        per_index = int(resource.parameters.get("multiplier", layout.per_index.get(resource.data_key, 1)))
        per_entry = width if "col" in dataset.axes else per_index
        # Row by row, so that a long announcement never needs memory for all of it.
        while announced.done < datum.stop:
            first = announced.done
            index = (datum.seq_num - 1 + first - datum.first) * per_entry
            rest = width - index % width
            stop = min(datum.stop, first + (rest if per_entry == 1 else 1))
            values = self._files.read(resource, dataset, first, stop, per_index=per_index)
            where = f"{resource.uri} entry {first}"
            frames = combine(layout, {role: conform(layout, role, values, where)})
            put(index, frames, announced.pending, where)
            announced.done = stop

    def close(self) -> None:
        """Close the run's files."""
        self._files.release(list(self._resources.values()))
