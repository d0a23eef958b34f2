"""Arrays in HDF5 files that a detector is still writing."""

from __future__ import annotations

import math
import stat
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import h5py
import numpy as np

from quietbeam.core.errors import DataNotReadyError, DocumentError
from quietbeam.core.hdf5 import gaps
from quietbeam.core.model.types import NumericArray

from ..documents.model import Resource, StreamResource
from ..profile.sections import Dataset
from .axes import arrange
from .reach import FileReach

_MIMETYPES = ("application/x-hdf5", "application/x-hdf", "application/hdf5")
_OPEN_FILES = 32


class DetectorFiles:
    """Reads ranges of arrays; opens files only below `roots`, and keeps at most 32 of them open.

    Parameters
    ----------
    roots
        Folders below which files may be opened (after resolving links).
    max_bytes
        Largest number of bytes in one read.
    path_map
        Folders as the detector's computer names them -> as they are mounted here.
    """

    def __init__(self, roots: Sequence[Path], *, max_bytes: int, path_map: Mapping[str, Path] | None = None) -> None:
        self._reach = FileReach(roots, path_map)
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, h5py.File] = OrderedDict()

    def path_of(self, resource: StreamResource | Resource) -> Path:
        """Return the resolved path of a resource.

        Raises
        ------
        DocumentError
            Not a local HDF5 file below the allowed folders.
        """
        if isinstance(resource, Resource):
            text = resource.path
        else:
            if resource.mimetype not in _MIMETYPES:
                raise DocumentError(f"{resource.data_key!r} is {resource.mimetype[:60]!r}; only HDF5 files are read")
            parts = urlsplit(resource.uri)
            text = unquote(parts.path)
            if parts.scheme != "file":
                raise DocumentError(f"{resource.data_key!r} is at {resource.uri[:200]!r}; only file:// URIs are read")
        return self._reach.path_of(text)

    def read(
        self, resource: StreamResource, dataset: Dataset, first: int, stop: int, *, per_index: int = 1
    ) -> NumericArray:
        """Return the frames of indices ``[first, stop)``: (frame, detector, line or channel), without missing axes.

        Parameters
        ----------
        resource, dataset
            The file, and the axes of its array in the beamline profile.
        first, stop
            Range of indices.
        per_index
            Frames per index.

        Raises
        ------
        DataNotReadyError
            The file or the range is not written yet.
        DocumentError
            The array can never be used: not below `roots`, wrong shape, too large.
        """
        array = self.array(resource, _name_in(resource))
        stacked = per_index > 1 and array.ndim == len(dataset.axes) + 1 and array.shape[1] == per_index
        rows = (first, stop) if stacked else (first * per_index, stop * per_index)
        values = self.part(resource, array, *rows)
        if stacked:
            values = values.reshape(-1, *values.shape[2:])
        return arrange(values, dataset.axes, f"{resource.uri}: {array.name} of shape {array.shape}")

    def part(
        self, resource: StreamResource | Resource, array: h5py.Dataset, first: int = 0, stop: int | None = None
    ) -> NumericArray:
        """Return entries ``[first, stop)`` of an array's first axis; without `stop` up to its present end.

        Raises
        ------
        DataNotReadyError
            The range is not written yet.
        DocumentError
            Not numbers, or too many bytes.
        """
        length = array.shape[0]
        stop = length if stop is None else stop
        what = f"{self.path_of(resource)}: {array.name}"
        if array.dtype.kind not in "iuf":
            raise DocumentError(f"{what} is {array.dtype}, not numbers")
        wanted = (stop - first) * math.prod(array.shape[1:]) * array.dtype.itemsize
        if wanted > self._max_bytes:
            raise DocumentError(
                f"{what}: entries {first} to {stop} are {wanted} bytes, more than ingest.max_spectrum_bytes"
            )
        if length < stop or stop == 0:
            if not array.file.swmr_mode:  # opened before its writer allowed readers
                self._forget(resource)
            raise DataNotReadyError(f"{what} has {length} entries, {max(stop, 1)} are announced")
        if array.external or array.is_virtual:
            self._require_sources(resource, array, first, stop)
        try:
            return np.asarray(array[first:stop])
        except OSError as error:
            self._forget(resource)
            raise DataNotReadyError(f"{what} cannot be read yet: {error}") from error

    def _require_sources(self, resource: StreamResource | Resource, array: h5py.Dataset, first: int, stop: int) -> None:
        """Raise where a part of the range lies in a file that is not there yet; HDF5 would fill it with zeros.

        Raises
        ------
        DataNotReadyError
            The message names the file.
        """
        for gap in gaps(array):
            if gap.begin[0] < stop and gap.end[0] > first:
                self._forget(resource)  # an open file does not see that its sources grow
                raise DataNotReadyError(f"{array.name}: entries {first} to {stop} need {gap.source}")

    def array(self, resource: StreamResource | Resource, name: str) -> h5py.Dataset:
        """Return an array of a file, as it is on disk now.

        Raises
        ------
        DataNotReadyError
            The file or the array is not written yet.
        DocumentError
            The array refers to other files, or is no array.
        """
        path = self.path_of(resource)
        try:
            file = self._open(path)
            self._reach.check(file, name)
            array = file[name]
            if not isinstance(array, h5py.Dataset) or array.ndim == 0:
                raise DocumentError(f"{path}: {name} is no array")
            array.refresh()
        except (DocumentError, DataNotReadyError):
            raise
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            self._drop(str(path))
            raise DataNotReadyError(f"{path}: {name} cannot be read: {error}") from error
        return array

    def _open(self, path: Path) -> h5py.File:
        key = str(path)
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block for ever
            raise DocumentError(f"{path} is not a file")
        # HDF5 in SWMR mode retries for minutes where a file ends too early, so only files with such a writer get it.
        if _has_swmr_writer(path):
            file = h5py.File(path, "r", libver="latest", swmr=True)
        else:
            file = h5py.File(path, "r", locking=False)
        self._files[key] = file
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return file

    def _drop(self, key: str) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            file.close()

    def _forget(self, resource: StreamResource | Resource) -> None:
        self._drop(str(self.path_of(resource)))

    def release(self, resources: Sequence[StreamResource | Resource]) -> None:
        """Close the files of a run that ended."""
        for resource in resources:
            try:
                self._forget(resource)
            except DocumentError:
                continue

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()


def _has_swmr_writer(path: Path) -> bool:
    """Return whether the superblock says that a writer lets others read on (HDF5 format specification, II.A).

    Raises
    ------
    OSError
        No HDF5 file, or shorter than its superblock says: it is being written or copied.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 48 or head[:8] != b"\x89HDF\r\n\x1a\n":
        raise OSError("it is no HDF5 file, or is still empty")
    version = head[8]
    where = {0: 40, 1: 44}.get(version, 28)
    end = int.from_bytes(head[where : where + 8], "little")
    if path.stat().st_size < end:
        raise OSError(f"it is half-written: {path.stat().st_size} of {end} bytes are there")
    return version >= 3 and bool(head[11] & 4)


def _name_in(resource: StreamResource) -> str:
    name = resource.parameters.get("dataset", resource.parameters.get("path", ""))
    if not isinstance(name, str) or not name:
        raise DocumentError(f"stream_resource of {resource.data_key!r} does not say which dataset it is")
    return name
