"""Puts a backup into an empty data folder: everything whose checksums agree, or nothing."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson
import zstandard

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.process.disk import sync_folder
from quietbeam.core.process.outage import disk_outage

from .backup import CHECKSUMS, FOLDERS, FORMAT, HEADER, SECRETS, Contents, HashingReader

_SCRATCH = ".restoring"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PIECE = 2**20
_HARMLESS = frozenset({"lost+found"})
"""What a new file system has."""


def restore(backup: Path, data_dir: Path) -> Contents:
    """Restore a backup into a data folder that is empty or not there.

    Raises
    ------
    InputError
        The folder has something in it, or the backup is damaged or of a later version; the folder is as before.
    ServiceError
        The disk is full; the folder is as before.
    """
    is_new = not data_dir.exists()
    if not is_new and (found := sorted({path.name for path in data_dir.iterdir()} - _HARMLESS)):
        left = f"; {_SCRATCH} is of a restore that runs or was killed" if _SCRATCH in found else ""
        remedy = f"give an empty folder, or move away what is there{left}"
        raise InputError(f"{data_dir} is not empty ({', '.join(found[:3])})", remedy=remedy)
    scratch = data_dir / _SCRATCH
    with _explained(backup, data_dir):
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch.mkdir(mode=0o700)
            with _members(backup) as members:
                contents = _extract(members, scratch)
            os.sync()
            for entry in sorted(scratch.iterdir(), key=lambda entry: entry.name == "runs"):  # the runs last
                entry.rename(data_dir / entry.name)
            scratch.rmdir()
            sync_folder(data_dir)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            if is_new and data_dir.is_dir() and not any(data_dir.iterdir()):
                data_dir.rmdir()
            raise
    return contents


@contextmanager
def _explained(backup: Path, data_dir: Path) -> Iterator[None]:
    remedy = "take another backup; nothing was restored"
    try:
        yield
    except InputError as error:
        raise InputError(f"{backup}: {error.message}", remedy=error.remedy or remedy) from error
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise InputError(f"{backup} is damaged or not whole ({error})", remedy=remedy) from error
    except OSError as error:
        if trouble := disk_outage(error):
            raise ServiceError(f"{trouble}; nothing was restored", remedy=f"make room in {data_dir}") from error
        raise


@contextmanager
def _members(backup: Path) -> Iterator[Iterator[tuple[str, HashingReader]]]:
    """Open a backup; yield name and bytes of each of its files in order."""
    with backup.open("rb") as file:
        packed = file.read(len(_ZSTD)) == _ZSTD
        file.seek(0)
        stream: Any = zstandard.ZstdDecompressor().stream_reader(file) if packed else file
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            yield _files(tar)


def _files(tar: tarfile.TarFile) -> Iterator[tuple[str, HashingReader]]:
    for member in tar:
        file: IO[bytes] | None = tar.extractfile(member) if member.isfile() else None
        if file is None:
            raise InputError(f"{member.name[:80]!r} in it is no file")
        yield member.name, HashingReader(file)


def _extract(members: Iterator[tuple[str, HashingReader]], scratch: Path) -> Contents:
    """Write the files below `scratch` and compare their checksums with those of the backup."""
    name, reader = next(members, ("", None))
    if name != HEADER or reader is None:
        raise InputError("it is no backup of quietbeam")
    _check_header(reader.read())
    contents, found, wanted = Contents(), dict[str, str](), None
    for name, reader in members:
        if name == CHECKSUMS:
            wanted = _parse(reader.read())
            continue
        path = _place(scratch, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "xb", opener=_private if name.startswith(f"{SECRETS}/") else None) as file:
            shutil.copyfileobj(reader, file, _PIECE)
            contents.count(name, file.tell())
        found[name] = reader.digest
    if wanted is None:
        raise InputError("its end is missing")
    if wrong := sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)):
        raise InputError(f"{len(wrong)} file(s) in it are missing or changed, the first is {wrong[0]}")
    return contents


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _check_header(data: bytes) -> None:
    try:
        number = int(orjson.loads(data)["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("its description cannot be read") from error
    if number > FORMAT:
        raise InputError("it was made by a later version", remedy="upgrade quietbeam; nothing was restored")


def _parse(data: bytes) -> dict[str, str]:
    """Return checksums by name."""
    lines = (line.partition("  ") for line in data.decode(errors="replace").splitlines())
    return {name: digest for digest, _, name in lines}


def _place(scratch: Path, name: str) -> Path:
    """Return where a file goes; only below the folders of a backup."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.parts[0] not in (*FOLDERS, SECRETS) or len(path.parts) < 2:
        raise InputError(f"{name[:80]!r} in it is no file of a data folder")
    return scratch / path
