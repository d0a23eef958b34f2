"""What of a run is written but may not be on disk yet, and how it gets there.

A file that was written is in the memory of the operating system; a power failure may lose it, or leave it torn. It is
on disk after an fsync of the file and of the folders that name it.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from quietbeam.core.process.disk import sync_file, sync_folder


class Writes:
    """Files that were written since they were last taken. Safe to use from several threads."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._lock = Lock()

    def add(self, path: Path) -> None:
        """Note a file that was written."""
        with self._lock:
            self._paths.add(path)

    def take(self) -> set[Path]:
        """Return the files and forget them."""
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths


def make_durable(paths: Iterable[Path], root: Path) -> None:
    """Return when files, and the folders from them up to `root`, are on disk; what was deleted meanwhile is left out.

    Raises
    ------
    OSError
        The disk failed. What was written may be lost although it can still be read: write it again.
    """
    files = set(paths)
    for path in sorted(files):
        sync_file(path)
    folders = {folder for path in files for folder in path.parents if folder == root or root in folder.parents}
    for folder in sorted(folders, key=lambda folder: (-len(folder.parts), folder)):
        sync_folder(folder)


def replace_file(path: Path, data: Any, *, durable: bool) -> None:
    """Write a file in one step; `durable`: a file that it replaces stays whole until this one is on disk."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            if durable and path.exists():
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


class RunStore(LocalStore):
    """The files of one run; every one that is written is noted in `writes`.

    Parameters
    ----------
    root
        Folder of the run, or of a group in it.
    writes
        Where written files are noted; None: nowhere.
    durable
        Files that are replaced stay whole until the new ones are on disk.
    """

    def __init__(
        self, root: Path | str, *, read_only: bool = False, writes: Writes | None = None, durable: bool = False
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._writes, self._durable = writes, durable

    def with_read_only(self, read_only: bool = False) -> RunStore:
        """Return the same store for reading, or for writing."""
        return RunStore(self.root, read_only=read_only, writes=self._writes, durable=self._durable)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file in one step."""
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a file in one step."""
        self._ensure_open_sync()
        self._check_writable()
        self.put(self.root / key, value.as_buffer_like())

    def put(self, path: Path, data: Any) -> None:
        """Write the bytes of a file of the run in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data, durable=self._durable)
        if self._writes is not None:
            self._writes.add(path)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a file that is not there."""
        if not (self.root / key).exists():
            await self.set(key, value)
