"""Leases: each run is denoised by one worker at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection

_RENEW = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0
"""


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
        self._renew = connection.register_script(_RENEW)

    def acquire(self, uid: str) -> bool:
        """Lease a run; False when another worker has it."""
        holder: Any = self._redis.set(keys.lease(uid), self._owner, nx=True, px=self._duration_ms, get=True)
        return holder is None or holder.decode() == self._owner

    def renew(self, uid: str) -> bool:
        """Renew the lease of a run, or lease it again; False when another worker has it."""
        if self._renew(keys=[keys.lease(uid)], args=[self._owner, self._duration_ms]):
            return True
        return bool(self._redis.set(keys.lease(uid), self._owner, nx=True, px=self._duration_ms))

    def release(self, uid: str) -> None:
        """Give a lease back, so that another worker can go on at once; nothing when it is not ours."""
        if self._redis.get(keys.lease(uid)) == self._owner.encode():
            self._redis.delete(keys.lease(uid))
