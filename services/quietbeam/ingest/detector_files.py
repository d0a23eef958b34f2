"""Arrays in HDF5 files that a detector is still writing."""

from __future__ import annotations

import math
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import h5py
import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import DataNotReadyError, DocumentError

from .documents import StreamResource
from .profile import Dataset

_MIMETYPES = ("application/x-hdf5", "application/x-hdf", "application/hdf5")
_OPEN_FILES = 32


class DetectorFiles:
    """Reads announced ranges; opens files only below `roots`, keeps few open.

    Parameters
    ----------
    roots
        Folders below which files may be opened (after resolving links).
    max_bytes
        Most bytes read at once.
    """

    def __init__(self, roots: Sequence[Path], *, max_bytes: int) -> None:
        self._roots = [root.resolve() for root in roots]
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, h5py.File] = OrderedDict()

    def path_of(self, resource: StreamResource) -> Path:
        """Return the resolved path of a resource.

        Raises
        ------
        DocumentError
            Not a local HDF5 file below the allowed folders.
        """
        if resource.mimetype not in _MIMETYPES:
            raise DocumentError(f"{resource.data_key!r} is {resource.mimetype[:60]!r}; only HDF5 files are read")
        parts = urlsplit(resource.uri)
        if parts.scheme != "file" or "\x00" in unquote(parts.path):
            raise DocumentError(f"{resource.data_key!r} is at {resource.uri[:200]!r}; only file:// URIs are read")
        path = Path(os.path.realpath(unquote(parts.path)))
        if not any(path.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(map(str, self._roots))
            raise DocumentError(
                f"{path} is not below the allowed folders ({allowed}); add its folder to ingest.data_roots"
            )
        return path

    def read(
        self, resource: StreamResource, dataset: Dataset, first: int, stop: int, *, tail: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Return entries ``[first, stop)``, axes ordered (frame or row, col, detector, line) as far as there are.

        Parameters
        ----------
        resource, dataset
            The file and how the profile reads it.
        first, stop
            Range of the first axis.
        tail
            Expected lengths of the other axes, in that order.

        Raises
        ------
        DataNotReadyError
            The file or the range is not there yet.
        DocumentError
            The array can never be used: wrong place, wrong shape, too large.
        """
        array = self._dataset(self.path_of(resource), resource)
        if array.dtype.kind not in "iuf":
            raise DocumentError(f"{resource.uri}: {array.name} is {array.dtype}, not numbers")
        wanted = (stop - first) * math.prod(array.shape[1:]) * array.dtype.itemsize
        if wanted > self._max_bytes:
            raise DocumentError(
                f"{resource.uri}: frames {first} to {stop} are {wanted} bytes, more than ingest.max_spectrum_bytes"
            )
        if array.shape[0] < stop:
            raise DataNotReadyError(f"{resource.uri}: {array.name} has {array.shape[0]} entries, {stop} are announced")
        try:
            values = np.asarray(array[first:stop])
        except OSError as error:
            self._forget(resource)
            raise DataNotReadyError(f"{resource.uri}: {array.name} cannot be read yet: {error}") from error
        if values.ndim > len(dataset.axes):  # areaDetector writers keep a leading 1 per frame
            values = values.reshape(values.shape[0], *(n for n in values.shape[1:] if n != 1))
        if values.ndim < len(dataset.axes):
            values = values.reshape(values.shape[0], *(1,) * (len(dataset.axes) - values.ndim), *values.shape[1:])
        axes = sorted(
            range(len(dataset.axes)), key=lambda i: ("frame", "row", "col", "detector", "line").index(dataset.axes[i])
        )
        if values.ndim == len(axes):
            values = values.transpose(axes)
        if values.ndim != len(axes) or values.shape[1:] != tuple(tail):
            raise DocumentError(
                f"{resource.uri}: {array.name} has shape {array.shape} (axes {', '.join(dataset.axes)}), "
                f"expected {tuple(tail)} per entry; correct the dataset's axes in the profile"
            )
        return values

    def _dataset(self, path: Path, resource: StreamResource) -> h5py.Dataset:
        name = resource.parameters.get("dataset", resource.parameters.get("path", ""))
        if not isinstance(name, str) or not name:
            raise DocumentError(f"stream_resource of {resource.data_key!r} does not say which dataset it is")
        try:
            file = self._open(path)
            link = file.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise DocumentError(f"{path}: {name} is an external link; announce the file that holds the data")
            array = file[name]
            if not isinstance(array, h5py.Dataset) or array.ndim == 0:
                raise DocumentError(f"{path}: {name} is no array")
            if array.external or array.is_virtual:
                raise DocumentError(f"{path}: {name} keeps its data in other files; announce those files")
            array.refresh()
        except DocumentError:
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
        try:
            file = h5py.File(path, "r", libver="latest", swmr=True)
        except (OSError, ValueError):
            file = h5py.File(path, "r", locking=False)
        self._files[key] = file
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return file

    def _drop(self, key: str) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            file.close()

    def _forget(self, resource: StreamResource) -> None:
        self._drop(str(self.path_of(resource)))

    def release(self, resources: Sequence[StreamResource]) -> None:
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
