"""Files of a run that are there and cannot be read: a torn chunk, garbage in `zarr.json`, an entry of another type."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quietbeam.core.errors import DamagedRunError, NotMeasuredError, QuietbeamError

_OF_THE_FILE = frozenset(
    {errno.EIO, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EUCLEAN}
)
"""Errors of one file; others, such as too many open files, say nothing about the run."""
_HEADER, _CHECKSUM = 16, 4
REMEDY = "`quietbeam doctor` names its damage, `quietbeam doctor --repair` mends what its counts allow"


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Make one error of everything that goes wrong while `what` of the run at `path` is read.

    Raises
    ------
    DamagedRunError
        It cannot be read.
    NotMeasuredError
        The run is not there (any more).
    """
    try:
        yield
    except QuietbeamError:
        raise
    except OSError as error:
        if not (path / "zarr.json").exists():
            raise NotMeasuredError(f"no run {path.name} is buffered") from error
        if not isinstance(error, FileNotFoundError) and error.errno not in _OF_THE_FILE:
            raise
        raise damaged(path, what, error) from error
    except MemoryError:
        raise
    except Exception as error:  # what zarr and its codecs raise has no common base
        if not (path / "zarr.json").exists():
            raise NotMeasuredError(f"no run {path.name} is buffered") from error
        raise damaged(path, what, error) from error


def damaged(path: Path, what: str, why: object) -> DamagedRunError:
    """Return the error that says what of the run at `path` cannot be read."""
    sentence = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
    return DamagedRunError(
        f"run {path.name} is damaged: {what} cannot be read ({sentence[:200]})", remedy=REMEDY, uid=path.name
    )


def is_whole(chunk: Path) -> bool:
    """Return whether a file of an array is there and as long as its header says; its values are not unpacked."""
    try:
        with chunk.open("rb") as file:
            header = file.read(_HEADER)
        beyond = chunk.stat().st_size - int.from_bytes(header[12:16], "little")
        return len(header) == _HEADER and beyond in (0, _CHECKSUM)
    except OSError:
        return False
