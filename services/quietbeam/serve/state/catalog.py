"""What is known of every run: Redis first, and where Redis is away or has forgotten, the zarr buffers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import redis
import structlog

from quietbeam.buffer import MapHistory, MapState, RunBuffer, list_buffers
from quietbeam.core.errors import DamagedRunError, InputError, NotMeasuredError
from quietbeam.core.model.types import RunInfo, RunState
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.runs import RunStatus

from .buffer_status import status_from_buffer
from .run_list import PageOfRuns, RunFilter, RunPlace, page_of

log = structlog.get_logger()

T = TypeVar("T")
_RETRY_AFTER_S = 1.0
_NEWEST = 20
"""Runs among which the newest map is usually found."""


def _state_word(value: bytes) -> RunState:
    try:
        return RunState(value.decode(errors="replace"))
    except ValueError:
        return RunState.UNUSABLE


class RunCatalog:
    """Runs by uid, newest first. Safe to use from several threads.

    Parameters
    ----------
    root
        Folder of the run buffers.
    connection
        Redis client.
    """

    def __init__(self, root: Path, connection: Connection) -> None:
        self._root = root
        self._redis = connection
        self._outage_until = 0.0
        self._outage_reason = ""
        self.refusal = ""
        """Why Redis takes no writes, though it may answer; empty while it does. Set by the heartbeat."""
        self._started: dict[str, float] = {}
        self._infos: dict[str, RunInfo] = {}
        self._lock = Lock()

    # --- Redis, as long as it is there --------------------------------------------------------------------------

    def query_redis(self, query: Callable[[Connection], T], otherwise: T, *, quietly: bool = False) -> T:
        """Ask Redis; while it is away, answer `otherwise` at once. An outage is logged, unless `quietly`."""
        if time.monotonic() < self._outage_until:
            return otherwise
        try:
            answer = query(self._redis)
        except redis.RedisError as error:
            if not self._outage_reason and not quietly:
                log.warning("redis_unavailable", error=str(error))
            self._outage_reason = type(error).__name__
            self._outage_until = time.monotonic() + _RETRY_AFTER_S
            return otherwise
        if self._outage_reason:
            log.info("redis_reconnected")
        self._outage_reason = ""
        return answer

    def note_damage(self, error: DamagedRunError) -> None:
        """Say in the list of runs that files of a run cannot be read."""
        if error.uid:
            self.query_redis(lambda connection: runs.note_damage(connection, error.uid, error), None)

    def redis_answers(self, *, quietly: bool = False) -> bool:
        """True when Redis answers now."""
        # not PING, which fails where only writes are refused
        return self.query_redis(lambda connection: bool(connection.time()), False, quietly=quietly)

    # --- runs ---------------------------------------------------------------------------------------------------

    def resolve(self, uid: str) -> str:
        """Return the uid that ``latest`` stands for, any other unchanged.

        ``latest`` is the newest run that is a map or may become one; where there is none, the newest run.
        """
        if uid != "latest":
            return uid
        newest: list[str] = []
        order = self.query_redis(lambda connection: runs.list_runs(connection, limit=_NEWEST), newest)
        order = self._maps_of(order)[:1] or self._maps_of(self._order())[:1] or self._order()[:1]
        if not order:
            raise NotMeasuredError("there is no run yet; start a scan, or look at /readyz for what ingest waits for")
        return order[0]

    def _maps_of(self, uids: list[str]) -> list[str]:
        """Return the runs that are not known to be no map, in their order."""

        def fetch(connection: Connection) -> list[Any]:
            with connection.pipeline(transaction=False) as pipe:
                for uid in uids:
                    pipe.hget(keys.run(uid), "state")
                    pipe.hexists(keys.run(uid), "info")
                return pipe.execute()

        nothing: list[Any] = [None] * (2 * len(uids))
        found = self.query_redis(fetch, nothing)
        return [
            uid
            for uid, state, has_info in zip(uids, found[::2], found[1::2], strict=True)
            if has_info or state is None or state.decode() != RunState.UNUSABLE
        ]

    def status(self, uid: str) -> RunStatus:
        """Return the state of a run.

        Raises
        ------
        NotMeasuredError
            Neither Redis nor the buffers know it.
        """
        known = self.query_redis(lambda connection: runs.read_status(connection, uid), None)
        if known is not None and known.info is not None:
            return known
        try:
            found = status_from_buffer(self._root, uid)
            return replace(found, damage=known.damage) if known is not None and known.damage else found
        except DamagedRunError as error:
            self.note_damage(error)
            known = known or RunStatus(uid=uid)
            return replace(known, state=RunState.UNUSABLE, reason=str(error), damage=str(error))
        except (NotMeasuredError, InputError) as error:
            if known is not None:
                return known
            raise NotMeasuredError(f"no run {uid[:64]!r}; api/v1/runs lists what there is") from error

    def page(
        self,
        offset: int,
        limit: int,
        wanted: RunFilter | None = None,
        *,
        newest_first: bool = True,
        after: RunPlace | None = None,
        before: RunPlace | None = None,
    ) -> PageOfRuns:
        """Return `limit` runs: from the `offset`-th newest (or oldest), or those `after` or `before` a place."""
        wanted = wanted or RunFilter()
        started = self._started_at()
        order = sorted(started, key=lambda uid: (started[uid], uid), reverse=newest_first)
        if wanted.since is not None:
            order = [uid for uid in order if started[uid] >= wanted.since]
        if wanted.until is not None:
            order = [uid for uid in order if started[uid] < wanted.until]
        if wanted.states is not None:
            current = self._states(order)
            order = [uid for uid in order if current[uid] in wanted.states]
        if wanted.needs_start_document:
            order = [uid for uid in order if wanted.matches(self._info(uid))]
        places = [RunPlace(started[uid], uid) for uid in order]
        shown, offset = page_of(places, offset, limit, newest_first=newest_first, after=after, before=before)
        found = []
        for place in shown:
            try:
                found.append(self.status(place.uid))
            except NotMeasuredError:
                continue  # deleted since it was listed
        return PageOfRuns(
            runs=found,
            total=len(order),
            first=shown[0] if shown else None,
            last=shown[-1] if shown else None,
            has_more=offset + len(shown) < len(order),
            has_less=offset > 0,
        )

    def count(self) -> int:
        """Return the number of runs."""
        return len(self._order())

    def uids(self) -> list[str]:
        """Return the uid of every run, the newest first."""
        return self._order()

    def history(self, uid: str) -> list[MapState]:
        """Return the states of a run's maps, oldest first; the newest can always be read."""
        try:
            states = MapHistory(RunBuffer.open(self._root, uid)).states()
        except (NotMeasuredError, DamagedRunError):
            return []
        return [*states[:-1], replace(states[-1], maps=True)] if states else []

    def _info(self, uid: str) -> RunInfo | RunStatus | None:
        """Return what a run is, once and for all; its status as long as it has no map."""
        with self._lock:
            if uid in self._infos:
                return self._infos[uid]
        try:
            status = self.status(uid)
        except NotMeasuredError:
            return None
        if status.info is None:
            return status
        with self._lock:
            self._infos[uid] = status.info
        return status.info

    def _order(self) -> list[str]:
        """Return every uid, newest start first."""
        started = self._started_at()
        return sorted(started, key=lambda uid: (started[uid], uid), reverse=True)

    def _started_at(self) -> dict[str, float]:
        """Return the start time of every run."""

        def index(connection: Connection) -> Any:
            return connection.zrange(keys.RUNS, 0, -1, withscores=True)

        pairs: Any = self.query_redis(index, [])
        started = {uid.decode(): float(score) for uid, score in pairs}
        for uid in list_buffers(self._root):
            if uid not in started:
                started[uid] = self._time_start(uid)
        return started

    def _time_start(self, uid: str) -> float:
        with self._lock:
            if uid in self._started:
                return self._started[uid]
        try:
            value = RunBuffer.open(self._root, uid).info.time_start
        except DamagedRunError:
            return self._time_of_folder(uid)
        except NotMeasuredError:
            value = 0.0
        with self._lock:
            self._started[uid] = value
        return value

    def _time_of_folder(self, uid: str) -> float:
        """Return about when a run was measured that cannot say it."""
        try:
            return (self._root / uid).stat().st_mtime
        except OSError:
            return 0.0

    def _states(self, uids: list[str]) -> dict[str, RunState]:
        def fetch(connection: Connection) -> list[Any]:
            with connection.pipeline(transaction=False) as pipe:
                for uid in uids:
                    pipe.hget(keys.run(uid), "state")
                return pipe.execute()

        found = self.query_redis(fetch, [None] * len(uids))
        return {
            uid: _state_word(value) if value else self._state_from_buffer(uid)
            for uid, value in zip(uids, found, strict=True)
        }

    def _state_from_buffer(self, uid: str) -> RunState:
        try:
            return status_from_buffer(self._root, uid).state
        except NotMeasuredError:
            return RunState.RUNNING
        except DamagedRunError:
            return RunState.UNUSABLE
