"""Documents are acknowledged when their rows are on disk: many after one round of fsync, in a thread of its own.

A round takes some milliseconds to some seconds, whatever the disk does. Meanwhile rows are received and written on, and
the next round has them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from quietbeam.buffer.durable import make_durable
from quietbeam.core.errors import ServiceError

from ..documents.delivery import Pending

EVERY_S = 0.1
"""Rounds begin at most so often."""
IDLE_S = 1.0
"""Files that no document waits for are on disk after so long."""


class GroupCommit:
    """Holds back documents until everything that was written before they were done is on disk.

    Parameters
    ----------
    root
        Folder of the runs.
    on
        False: nothing is waited for.
    """

    def __init__(self, root: Path, *, on: bool) -> None:
        self._root, self._on = root, on
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fsync")
        self._paths: set[Path] = set()
        self._waiting: list[Pending] = []
        self._round: tuple[Future[None], list[Pending]] | None = None
        self._next = 0.0

    @property
    def idle(self) -> bool:
        """True when nothing waits for the disk."""
        return self._round is None and not self._paths and not self._waiting

    def add(self, paths: Iterable[Path], done: Iterable[Pending]) -> None:
        """Add files that were written, and documents that are done with them."""
        if self._on:
            self._paths.update(paths)
        self._waiting += done

    def poll(self) -> list[Pending]:
        """Return the documents that can be acknowledged, in their order; begin the next round when it is due.

        Raises
        ------
        ServiceError
            The disk failed; nothing of the round may be acknowledged. Only a new start knows what is on disk.
        """
        if not self._on:
            ready, self._waiting = self._waiting, []
            return ready
        ready = self._finished() if self._round is not None and self._round[0].done() else []
        now = time.monotonic()
        due = self._next if self._waiting else self._next + IDLE_S
        if self._round is None and (self._waiting or self._paths) and now >= due:
            self._begin()
            self._next = now + EVERY_S
        return ready

    def finish(self) -> list[Pending]:
        """Wait until everything is on disk; return the documents that can be acknowledged.

        Raises
        ------
        ServiceError
            As for :meth:`poll`.
        """
        ready = self._finished() if self._round is not None else []
        if self._on:
            self._begin()
            return ready + self._finished()
        return ready + self.poll()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _begin(self) -> None:
        paths, self._paths = self._paths, set()
        waiting, self._waiting = self._waiting, []
        self._round = self._thread.submit(make_durable, paths, self._root), waiting

    def _finished(self) -> list[Pending]:
        assert self._round is not None
        (future, documents), self._round = self._round, None
        try:
            future.result()
        except OSError as error:
            raise ServiceError(
                f"{self._root}: the disk did not take what was written ({error.strerror})",
                remedy="ingest starts again and gets the documents again; look after the disk",
            ) from error
        return documents
