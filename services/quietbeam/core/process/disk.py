"""Files and folders that are on disk, whatever happens to the power."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_FOLDERS = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES})
"""Errors of file systems that cannot sync folders."""


def sync_file(path: Path) -> None:
    """Return when a file is on disk; its name is when its folder is. A file that is gone is left out.

    Raises
    ------
    OSError
        The disk failed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the entries of a folder are on disk, where the file system can say so.

    Raises
    ------
    OSError
        The disk failed.
    """
    try:
        sync_file(path)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it that are missing; their names are on disk.

    Raises
    ------
    OSError
        It cannot be made, or the disk failed.
    """
    path = path.absolute()
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    for folder in (path, path.parent, path.parent.parent):
        sync_folder(folder)
