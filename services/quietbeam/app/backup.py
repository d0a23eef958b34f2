"""Backups of a data folder: one tar file with the counts and maps of all runs, weights, calibrations, checksums.

Members are ``quietbeam-backup.json``, then the files under the paths that they have in the data folder, and
``SHA256SUMS`` last: without it the file is not whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
import zstandard

from quietbeam import __version__
from quietbeam.buffer.examination import stored_runs
from quietbeam.buffer.snapshot import take_snapshot
from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.process.disk import sync_folder
from quietbeam.core.process.lock import HeldError, acquire
from quietbeam.core.process.outage import disk_outage

FORMAT = 1
HEADER, CHECKSUMS = "quietbeam-backup.json", "SHA256SUMS"
FOLDERS = ("runs", "weights", "calibrations")
SECRETS = "secrets"
_SNAPSHOT = ".backup"


@dataclass(slots=True, kw_only=True)
class Contents:
    """What is in a backup.

    Attributes
    ----------
    runs
        Uids.
    rows
        Rows that have a commit mark, of all runs.
    files, size
        Their number, and bytes of all of them.
    left_out
        Rows that were being written, by run.
    """

    runs: set[str] = field(default_factory=set)
    rows: int = 0
    files: int = 0
    size: int = 0
    left_out: dict[str, list[int]] = field(default_factory=dict)

    def count(self, name: str, size: int) -> None:
        """Count a file; `name` is its path in the data folder."""
        self.files += 1
        self.size += size
        folder, _, rest = name.partition("/")
        if folder == "runs":
            uid, _, place = rest.partition("/")
            self.runs.add(uid)
            self.rows += place.startswith("measured/c/") and place.endswith("/0")

    def __str__(self) -> str:
        return f"{len(self.runs)} runs, {self.rows} rows, {self.files} files, {self.size / 2**20:.1f} MiB"


def back_up(data_dir: Path, output: Path, *, secrets: bool = False) -> Contents:
    """Write a backup of a data folder while services may run.

    Parameters
    ----------
    output
        New file: ``.tar``, or ``.tar.zst`` to pack it.
    secrets
        Put the keys in, too.

    Raises
    ------
    InputError
        The file is there already, its name ends otherwise, or `data_dir` has no runs.
    ServiceError
        Another backup runs, or the disk is full; no file is left then.
    """
    packed = output.name.endswith(".tar.zst")
    if not packed and output.suffix != ".tar":
        raise InputError(f"a backup is a .tar or .tar.zst file, not {output.name!r}")
    if output.exists():
        raise InputError(f"{output} is there already", remedy="choose another name, or move it away")
    if not (data_dir / "runs").is_dir():
        raise InputError(f"{data_dir} has no folder `runs`", remedy="give the folder that the setting data_dir names")
    partial = output.with_name(f".{output.name}.partial")
    with _alone(data_dir), _no_space(output):
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                contents = _write(data_dir, file, packed=packed, secrets=secrets)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(output)
            sync_folder(output.parent)
        finally:
            partial.unlink(missing_ok=True)
            shutil.rmtree(data_dir / "runs" / _SNAPSHOT, ignore_errors=True)
    return contents


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    try:
        lock = acquire(data_dir / "backup.lock")
    except HeldError as error:
        raise ServiceError(f"another backup of {data_dir} runs (pid {error.pid})", remedy="wait for it") from None
    try:
        shutil.rmtree(data_dir / "runs" / _SNAPSHOT, ignore_errors=True)  # of a backup that was killed
        yield
    finally:
        lock.release()


@contextmanager
def _no_space(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if trouble := disk_outage(error):
            raise ServiceError(f"{trouble}; no backup was written", remedy=f"make room for {output.name}") from error
        raise


def _write(data_dir: Path, file: IO[bytes], *, packed: bool, secrets: bool) -> Contents:
    if not packed:
        return _write_members(data_dir, file, secrets=secrets)
    with zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(file, closefd=False) as writer:
        return _write_members(data_dir, writer, secrets=secrets)


def _write_members(data_dir: Path, file: Any, *, secrets: bool) -> Contents:
    with tarfile.open(fileobj=file, mode="w|") as tar:
        archive = _Archive(tar)
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        archive.add_bytes(HEADER, orjson.dumps({"format": FORMAT, "quietbeam": __version__, "made": made}))
        for folder in (*FOLDERS[1:], *((SECRETS,) if secrets else ())):
            archive.add_folder(data_dir / folder, folder)
        for uid in stored_runs(data_dir / "runs"):
            snapshot = data_dir / "runs" / _SNAPSHOT / uid
            left_out = take_snapshot(data_dir / "runs" / uid, snapshot)
            if left_out:
                archive.contents.left_out[uid] = left_out
            archive.add_folder(snapshot, f"runs/{uid}")
            shutil.rmtree(snapshot, ignore_errors=True)
        archive.add_bytes(CHECKSUMS, "".join(archive.checksums).encode())
    return archive.contents


class _Archive:
    """Adds files to a tar and remembers their checksums."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.contents = Contents()
        self.checksums: list[str] = []

    def add_folder(self, folder: Path, name: str) -> None:
        """Add every file below a folder, which need not be there."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".partial" and "\n" not in path.name:
                self._add(path, f"{name}/{path.relative_to(folder).as_posix()}")

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a member of the backup itself."""
        self._tar.addfile(_member(name, len(data), time.time()), io.BytesIO(data))

    def _add(self, path: Path, name: str) -> None:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # replaced or deleted meanwhile
            return
        with file:
            stat = os.fstat(file.fileno())
            reader = HashingReader(file)
            self._tar.addfile(_member(name, stat.st_size, stat.st_mtime), reader)
        self.checksums.append(f"{reader.digest}  {name}\n")
        self.contents.count(name, stat.st_size)


def _member(name: str, size: int, mtime: float) -> tarfile.TarInfo:
    """Return the header of a file; whole seconds keep the order of mark and counts and need no second header."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, int(mtime), 0o600
    return member


class HashingReader:
    """A file that remembers the SHA-256 of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        """Checksum of everything that was read, in hexadecimal digits."""
        return self._hash.hexdigest()
