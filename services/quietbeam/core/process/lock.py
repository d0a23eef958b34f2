"""Locks between processes on one machine; a lock ends with the process that has it, however that ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout


class HeldError(Exception):
    """Another process has the lock; `pid` is its process id, or "?" when it left none."""

    def __init__(self, path: Path, pid: str) -> None:
        super().__init__(f"{path} is locked by process {pid}")
        self.pid = pid


def acquire(path: Path) -> FileLock:
    """Take the lock at once, and write the process id into its file.

    Raises
    ------
    HeldError
        Another process has it.
    """
    lock = FileLock(path, mode=0o600, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise HeldError(path, path.read_text(encoding="utf-8").strip() or "?") from None
    with contextlib.suppress(OSError):  # a full disk keeps nobody from the lock
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")
    return lock


def holder(path: Path) -> str:
    """Return the id of the process that has the lock, "?" when it left none, "" when the lock is free."""
    if not path.exists():
        return ""
    lock = FileLock(path, mode=0o600, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return path.read_text(encoding="utf-8").strip() or "?"
    lock.release()
    return ""
