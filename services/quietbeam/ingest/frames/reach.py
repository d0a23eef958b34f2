"""What a dataset of a detector file reaches: links, virtual sources and external storage must stay below the roots."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import h5py

from quietbeam.core.errors import DataNotReadyError, DocumentError
from quietbeam.core.hdf5 import missing_filters, open_hdf5

_DEEPEST = 32
"""Links and sources that are followed one after the other; more are a circle."""


class FileReach:
    """Decides which files may be opened.

    Parameters
    ----------
    roots
        Folders below which files may be opened, after resolving links of the file system.
    path_map
        Folders as the detector's computer names them -> as they are mounted here.
    """

    def __init__(self, roots: Sequence[Path], path_map: Mapping[str, Path] | None = None) -> None:
        self.roots = [root.resolve() for root in roots]
        self._path_map = sorted((path_map or {}).items(), key=lambda item: -len(item[0]))

    def path_of(self, text: str) -> Path:
        """Return the resolved path of an announced file.

        Raises
        ------
        DocumentError
            It is not below the roots.
        """
        if "\x00" in text:
            raise DocumentError(f"{text[:200]!r} is no path")
        path = Path(os.path.realpath(self._mapped(text)))
        if not any(path.is_relative_to(root) for root in self.roots):
            allowed = ", ".join(map(str, self.roots))
            raise DocumentError(
                f"{path} is not below the allowed folders ({allowed}); add its folder to ingest.data_roots, or map the "
                "detector's path to yours with ingest.path_map"
            )
        return path

    def _mapped(self, text: str) -> str:
        announced = PurePosixPath(text)
        for remote, local in self._path_map:
            if announced.is_relative_to(remote):
                return str(local / announced.relative_to(remote))
        return text

    def check(self, file: h5py.File, name: str, depth: int = 0) -> None:
        """Follow a name from the root of a file to its data, through every link on the way.

        Raises
        ------
        DocumentError
            Something on the way leaves the roots, or leads in a circle; or a filter of the data is unknown here.
        DataNotReadyError
            A part of the way is not there yet.
        """
        if depth > _DEEPEST:
            raise DocumentError(f"{file.filename}: {name} leads through more than {_DEEPEST} links")
        here, parts = "/", [part for part in name.split("/") if part not in ("", ".")]
        for n, part in enumerate(parts):
            link = _link(file[here], part)
            rest = "/".join(parts[n + 1 :])
            if link is None:
                raise DataNotReadyError(f"{file.filename}: {here.rstrip('/')}/{part} is not there yet")
            if isinstance(link, h5py.ExternalLink):
                self._check_file(file, link.filename, f"{link.path}/{rest}", depth)
                return
            if isinstance(link, h5py.SoftLink):
                target = link.path if link.path.startswith("/") else f"{here}/{link.path}"
                self.check(file, f"{target}/{rest}", depth + 1)
                return
            here = f"{here.rstrip('/')}/{part}"
        self._check_data(file, here, depth)

    def _check_data(self, file: h5py.File, name: str, depth: int) -> None:
        data = file[name]
        if not isinstance(data, h5py.Dataset):
            return
        if missing := missing_filters(data):
            raise DocumentError(
                f"{file.filename}: {name} is compressed with the HDF5 filter {', '.join(missing)}, which is not "
                "installed; install its plugin and set HDF5_PLUGIN_PATH"
            )
        for external, _, _ in data.external or ():
            self.path_of(str(_relative_to(file, external)))
        for source in data.virtual_sources() if data.is_virtual else ():
            if source.file_name == ".":
                self.check(file, source.dset_name, depth + 1)
            elif "%" in source.file_name:  # a series of numbered files
                path = _relative_to(file, source.file_name)
                self.path_of(str(path.parent))
                for found in path.parent.glob("*"):
                    if found.is_symlink():
                        self.path_of(str(found))
            else:
                self._check_file(file, source.file_name, source.dset_name, depth)

    def _check_file(self, file: h5py.File, name: str, inside: str, depth: int) -> None:
        path = self.path_of(str(_relative_to(file, name)))
        if not path.exists():
            return  # its part is not measured as long as it is missing
        try:
            with open_hdf5(path) as other:
                self.check(other, inside, depth + 1)
        except DocumentError:
            raise
        except OSError as error:
            raise DataNotReadyError(f"{path} cannot be read yet: {error}") from error


def _relative_to(file: h5py.File, name: str) -> Path:
    """Return the path of a file that another one names, relative to that one."""
    return Path(file.filename).resolve().parent / name


def _link(group: h5py.Group, name: str) -> h5py.HardLink | h5py.SoftLink | h5py.ExternalLink | None:
    """Return the link of this name, even one that leads nowhere, without following it; None where there is none."""
    if not isinstance(group, h5py.Group) or not group.id.links.exists(name.encode()):
        return None
    return group.get(name, getlink=True)
