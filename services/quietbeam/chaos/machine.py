"""What only the machine can do to an installation: a disk that is full, a wall clock that steps."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from pathlib import Path

from quietbeam.core.errors import ServiceError

SOURCE = Path(__file__).with_name("clock.c")
_NEW_MOUNTS, _PRIVATE, _REMOUNT = 0x20000, (1 << 18) | 0x4000, 0x20
_PAGE = 4096


class Disk:
    """A file system in memory that can be filled in an instant, seen by this process and its children only.

    Parameters
    ----------
    folder
        Where it lies.
    megabytes
        Its size while it is not full.

    Raises
    ------
    ServiceError
        It cannot be mounted here.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self._megabytes = folder, megabytes
        folder.mkdir(parents=True, exist_ok=True)
        _mount(folder, 0, f"size={megabytes}m,mode=0700")

    def fill(self) -> None:
        """Leave no page free: what is written next fails with ENOSPC."""
        for _ in range(100):  # what is written meanwhile needs a larger size
            stat = os.statvfs(self.folder)
            used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
            try:
                _mount(self.folder, _REMOUNT, f"size={used + _PAGE}")
            except ServiceError:
                continue
            return
        raise ServiceError(f"{self.folder} cannot be filled")

    def clear(self) -> None:
        """Give the space back."""
        _mount(self.folder, _REMOUNT, f"size={self._megabytes}m")


def own_mounts() -> str:
    """Give this process mounts of its own, which go with it; return why not, empty when it was done.

    To be called before threads are started.
    """
    libc = _libc()
    if libc is None:
        return "file systems are mounted on Linux only"
    if libc.unshare(_NEW_MOUNTS) or libc.mount(b"none", b"/", None, _PRIVATE, None):
        return f"no file system can be mounted here ({os.strerror(ctypes.get_errno())}): run as root"
    return ""


class Clock:
    """The wall clock of the processes that are started with :meth:`environment`.

    Parameters
    ----------
    folder
        Gets the library and the offset.

    Raises
    ------
    ServiceError
        The library cannot be compiled here.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._offset = folder / "clock.so", folder / "offset"
        self.step(0)
        compiler = shutil.which("cc") or shutil.which("gcc")
        if os.uname().sysname != "Linux" or compiler is None:
            raise ServiceError("steps of the clock need Linux and a C compiler")
        words = [compiler, "-O1", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"]
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            raise ServiceError(f"the clock's library cannot be compiled: {done.stderr[-500:]}")

    def environment(self) -> dict[str, str]:
        """Return what processes need in their environment to follow this clock."""
        return {"LD_PRELOAD": str(self._library), "QUIETBEAM_CHAOS_CLOCK": str(self._offset)}

    def step(self, seconds: float) -> None:
        """Let the clock be `seconds` before (above 0) or behind the real one from now on."""
        with open(self._offset, "r+b" if self._offset.exists() else "wb", buffering=0) as file:
            file.write(struct.pack("=q", int(seconds * 1e9)))  # the same file: it is mapped


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if os.uname().sysname == "Linux" else None


def _mount(folder: Path, flags: int, options: str) -> None:
    libc = _libc()
    assert libc is not None
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options.encode()):
        raise ServiceError(f"cannot mount a file system at {folder}: {os.strerror(ctypes.get_errno())}")
