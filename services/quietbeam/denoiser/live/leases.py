"""Leases: each run is denoised by one worker at a time, and an earlier one cannot write over a later one."""

from __future__ import annotations

from datetime import timedelta

from quietbeam.buffer import RunBuffer
from quietbeam.core.wire import fence, keys
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.fence import Lease


class RunLeases:
    """The leases of one worker in Redis.

    Parameters
    ----------
    owner
        Name in leases; a restarted worker keeps its name and so gets its runs back at once.
    duration
        A lease that is not renewed ends after this time.
    """

    def __init__(self, connection: Connection, owner: str, duration: timedelta) -> None:
        self._redis, self._owner = connection, owner
        self._duration_ms = int(duration.total_seconds() * 1000)

    def taken(self, uid: str) -> bool:
        """Return True when another worker has the run."""
        return self._redis.get(keys.lease(uid)) not in (None, self._owner.encode())

    def acquire(self, buffer: RunBuffer) -> Lease | None:
        """Lease a run; None when another worker has it."""
        return fence.acquire(
            self._redis,
            buffer.info.uid,
            self._owner,
            self._duration_ms,
            token_above=buffer.largest_token(),
            version_above=int(buffer.map_attributes().get("version") or 0),
        )

    def renew(self, lease: Lease) -> bool:
        """Renew a lease, also one that ran out; False when somebody else has had the run since."""
        return fence.renew(self._redis, lease, self._duration_ms)

    def release(self, lease: Lease) -> None:
        """Give a lease back, so that another worker can go on at once; nothing when it is lost."""
        fence.release(self._redis, lease)
