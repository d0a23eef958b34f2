"""Where the maps of a run lie: one folder for each lease, ``<run>/maps/<token>/``, and the largest token counts.

A worker that was stopped beyond its lease may go on at any instruction, also between a check and the write that it
checked for. It then writes to the folder of its own, smaller token, which nobody reads any more. So no check is needed
where the bytes are written, and no lock of a file system is relied on.

A folder is called ``<token>.new`` until the first version of its lease is whole. It begins as a copy of the maps
before, made of hard links, so that what the new worker has not written yet stays visible.
The folder before the newest is kept: a reader may still be in it. Runs of version 0.2 and before have their maps
beside their counts; such a run is read as it is, and copied at its next lease.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr

from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import FloatArray, RunInfo

from .layout import CONFIG, create_array, map_layout
from .sparse import chunk_folder, numbers_in, read_present

_FOLDER = re.compile(r"^(\d{1,18})(\.new)?$")
_OLDEST = -1
"""Token of maps beside the counts."""


def newest_folder(run: Path) -> Path | None:
    """Return the folder of the largest token whose maps are visible; None where no lease has written any."""
    tokens = numbers_in(run / "maps")
    return run / "maps" / str(tokens[-1]) if tokens else None


class MapFolders:
    """The maps of one run on disk.

    Parameters
    ----------
    run
        Folder of the run.
    info
        Shape and lines.
    kinds
        Names of the arrays; the attributes of the versions are those of ``denoised``.
    """

    def __init__(self, run: Path, info: RunInfo, kinds: tuple[str, ...]) -> None:
        self._run, self._info, self._kinds = run, info, kinds
        self._token: int | None = None
        self._hidden = False
        self._arrays: dict[tuple[Path, str], zarr.Array[Any]] = {}

    def newest(self) -> int | None:
        """Return the token whose maps count now; None where there are no maps.

        Raises
        ------
        NotMeasuredError
            The run was deleted.
        """
        shown = [token for token, hidden in self._tokens() if not hidden]
        if shown:
            return max(shown)
        if (self._run / "denoised" / "zarr.json").is_file():
            return _OLDEST
        if not (self._run / "zarr.json").is_file():
            raise NotMeasuredError(f"run {self._info.uid} was deleted")
        return None

    def largest(self) -> int:
        """Return the largest token that ever wrote here, whether or not its maps are visible; 0 for none."""
        return max((token for token, _ in self._tokens()), default=0)

    def folder(self, token: int) -> Path:
        """Return the folder of the maps that count under `token`."""
        return self._run if token == _OLDEST else self._run / "maps" / str(token)

    def begin(self, token: int) -> None:
        """Write under `token` from now on: to a copy of the present maps, visible from :meth:`show` on."""
        shutil.rmtree(self._hidden_folder(token), ignore_errors=True)
        before = self.newest()
        if before is not None:
            self._copy(self.folder(before), self._hidden_folder(token))
        self._make_arrays(self._hidden_folder(token))
        self._token, self._hidden = token, True

    def show(self) -> None:
        """Make the maps of this token those that are read; nothing when they are already."""
        if not self._hidden or self._token is None:
            return
        before = self.newest()
        self._hidden_folder(self._token).rename(self.folder(self._token))
        self._hidden = False
        for token, hidden in self._tokens():
            if token < self._token and (hidden or token != before):
                shutil.rmtree(self._hidden_folder(token) if hidden else self.folder(token), ignore_errors=True)

    def to_write(self) -> Path:
        """Return the folder to write to: that of the token, without one that of the newest maps."""
        if self._token is None:
            newest = self.newest()
            if newest is None:
                self.begin(0)
                self.show()
            else:
                return self.folder(newest)
        assert self._token is not None
        return self._hidden_folder(self._token) if self._hidden else self.folder(self._token)

    def array(self, folder: Path, kind: str) -> zarr.Array[Any]:
        """Return an array of a folder.

        Raises
        ------
        KeyError
            The folder has no such array.
        """
        if (folder, kind) not in self._arrays:
            self._arrays = {key: value for key, value in self._arrays.items() if key[0] == folder}
            try:
                found = zarr.open_array(folder / kind, mode="r+", zarr_format=3)
            except FileNotFoundError as error:
                raise KeyError(kind) from error
            if found.shape != map_layout(self._info).shape:
                raise ValueError(f"{kind} is no array of the run's shape")
            self._arrays[folder, kind] = found.with_config(CONFIG)
        return self._arrays[folder, kind]

    def read(self, kind: str, lines: slice | int, rows: slice) -> FloatArray | None:
        """Return values of the newest maps; None where there are no maps.

        Raises
        ------
        KeyError
            The maps have no such kind.
        """
        while True:
            token = self.newest()
            if token is None:
                return None
            try:
                values = read_present(self.folder(token) / kind, self.array(self.folder(token), kind), rows)[lines]
            except (KeyError, FileNotFoundError):
                if self.newest() == token:
                    raise
                continue
            if self.newest() == token:  # else a newer folder took its place, and files of this one may be gone
                return values

    def bands(self, kind: str) -> list[int]:
        """Return the numbers of the files of rows that the newest maps have of a kind."""
        token = self.newest()
        if token is None:
            return []
        array = self.array(self.folder(token), kind)
        return numbers_in(chunk_folder(self.folder(token) / kind, array))

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the newest maps as they are on disk now, and their ``token``; {} without maps."""
        while (token := self.newest()) is not None:
            try:
                found = zarr.open_array(self.folder(token) / "denoised", mode="r", zarr_format=3)
            except FileNotFoundError:
                if self.newest() == token:
                    raise
                continue
            return {**dict(found.attrs), "token": token}
        return {}

    def remove(self) -> None:
        """Delete all maps; for repairs."""
        for folder in (self._run / "maps", self._run / "history", *(self._run / kind for kind in self._kinds)):
            shutil.rmtree(folder, ignore_errors=True)
        self._arrays.clear()

    def _tokens(self) -> list[tuple[int, bool]]:
        """Return every token, and whether its folder is hidden."""
        try:
            names = [path.name for path in (self._run / "maps").iterdir()]
        except FileNotFoundError:
            return []
        found = [match for name in names if (match := _FOLDER.match(name))]
        return [(int(match[1]), match[2] is not None) for match in found]

    def _hidden_folder(self, token: int) -> Path:
        return self._run / "maps" / f"{token}.new"

    def _copy(self, source: Path, target: Path) -> None:
        """Copy arrays and history: as hard links, for files of maps are replaced and never changed."""
        for name in (*self._kinds, "history"):
            for folder, _, files in os.walk(source / name):
                to = target / Path(folder).relative_to(source)
                to.mkdir(parents=True, exist_ok=True)
                for file in files:
                    if not file.endswith(".partial"):
                        with suppress(FileNotFoundError):  # a worker that still writes there took it away
                            os.link(Path(folder, file), to / file)

    def _make_arrays(self, folder: Path) -> None:
        group = zarr.open_group(folder, mode="a", zarr_format=3)
        for kind in self._kinds:
            if kind not in group:
                create_array(group, kind, map_layout(self._info))
