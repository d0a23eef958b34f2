"""Which runs go when all of them take more of the disk than `ingest.keep_bytes`: the oldest that nobody needs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from quietbeam.buffer.disk_use import sizes_on_disk
from quietbeam.buffer.examination import stored_runs
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import actions, keys, runs
from quietbeam.core.wire.actions import ActionKind
from quietbeam.core.wire.bus import Connection

log = structlog.get_logger()

_TURN_S = 0.005
"""Longest time for which files are counted before ingest looks for documents again."""
_DELETED = "is being deleted"
_SETTLED = ("final", "raw_only", "failed")

Stamp = tuple[RunState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the limit means for the runs that are there.

    Attributes
    ----------
    total
        Bytes of all runs on disk.
    due
        Runs that go, oldest first.
    kept
        Why others stay although the limit is exceeded: how many for each reason.
    above
        Bytes above the limit when the runs that are due are gone; 0 for none.
    """

    total: int
    due: tuple[str, ...]
    kept: dict[str, int]
    above: int

    @property
    def sentence(self) -> str:
        """Why the limit cannot be kept; empty when it can."""
        if not self.above:
            return ""
        why = ", ".join(f"{number} {reason}" for reason, number in sorted(self.kept.items()))
        return f"the runs take {self.above / 2**30:.2f} GiB more than ingest.keep_bytes; stay: {why or 'unknown runs'}"


class SizeLimit:
    """Counts the bytes of all runs bit by bit; those of a finished run once, until its maps change."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self._settings, self._redis = settings, connection
        self._known: dict[str, tuple[Stamp | None, int]] = {}
        self._counting: Iterator[None] | None = None
        self._said = ""

    def poll(self, *, begin: bool) -> tuple[str, ...]:
        """Count on, or begin to; return the runs that are due once all are counted."""
        if self._counting is None:
            if not begin:
                return ()
            self._counting = self._count()
        deadline = time.monotonic() + _TURN_S
        for _ in self._counting:
            if time.monotonic() >= deadline:
                return ()
        self._counting = None
        found = judge(self._settings, self._redis, {uid: size for uid, (_, size) in self._known.items()})
        if found.sentence != self._said:
            self._said = found.sentence
            if found.sentence:
                log.warning("runs_above_limit", reason=found.sentence)
        return found.due

    def _count(self) -> Iterator[None]:
        uids = stored_runs(self._settings.runs_dir)
        self._known = {uid: self._known[uid] for uid in uids if uid in self._known}
        for uid in uids:
            status = runs.read_status(self._redis, uid)
            ended = status is not None and status.state.ended
            stamp = (status.state, status.maps_version) if status is not None and ended else None
            if stamp is None or self._known.get(uid, (None, 0))[0] != stamp:
                size = 0
                for part in sizes_on_disk(self._settings.runs_dir / uid):
                    size += part
                    yield
                self._known[uid] = (stamp, size)
            yield


def count_all(runs_dir: Path) -> dict[str, int]:
    """Return the bytes of every run on disk."""
    return {uid: sum(sizes_on_disk(runs_dir / uid)) for uid in stored_runs(runs_dir)}


def judge(settings: Settings, connection: Connection, sizes: dict[str, int]) -> Verdict:
    """Say which runs go so that the others keep the limit `ingest.keep_bytes`."""
    limit, total = settings.ingest.keep_bytes, sum(sizes.values())
    left, due, kept = total, list[str](), Counter[str]()
    if limit is None or total <= limit:
        return Verdict(total=total, due=(), kept={}, above=0)
    reasons = {uid: _kept_because(settings, connection, uid) for uid in runs.list_runs(connection, newest_first=False)}
    left -= sum(sizes.get(uid, 0) for uid, reason in reasons.items() if reason == _DELETED)
    for uid, reason in reasons.items():
        if left <= limit:
            break
        if reason and reason != _DELETED:
            kept[reason] += 1
        elif uid in sizes and not reason:
            due.append(uid)
            left -= sizes[uid]
    return Verdict(total=total, due=tuple(due), kept=dict(kept), above=max(0, left - limit))


def _kept_because(settings: Settings, connection: Connection, uid: str) -> str:
    """Return why a run stays; empty when it may go."""
    status = runs.read_status(connection, uid)
    if status is None or not status.state.ended:
        return "not ended"
    asked = {action.kind for action in actions.waiting(connection, uid)}
    if ActionKind.DELETE in asked:
        return _DELETED
    checks = {
        "pinned": status.pinned,
        "to be denoised": status.info is not None and status.denoise_state not in _SETTLED,
        "to be refined": settings.denoise.refine and connection.zscore(keys.REFINE, uid) is not None,
        "in the hands of a worker": bool(connection.exists(keys.lease(uid))),
        "with a request that waits": bool(asked),
    }
    return next((reason for reason, holds in checks.items() if holds), "")
