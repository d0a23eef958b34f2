"""The lease of a run and its fencing token, in Redis.

Every lease gets a token that is larger than those of all leases before. Whoever writes for a run in Redis does it with
:func:`fenced`, which Redis itself refuses to a smaller token (``WATCH`` on the token, then ``MULTI`` and ``EXEC``): a
worker that was stopped beyond its lease cannot write over its successor, at whichever instruction it goes on. Versions
of the maps are numbered by Redis, under the token too, so no number is given twice.

Redis may lose its data. Whoever asks for a lease therefore says the largest token and version that the disk has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
from redis.client import Pipeline

from ..errors import LeaseLostError
from . import keys
from .bus import Connection

T = TypeVar("T")
_FORGET_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to write the maps and the denoise fields of a run.

    Attributes
    ----------
    uid
        Run.
    owner
        Name of who holds it.
    token
        Larger than that of every lease of this run before.
    """

    uid: str
    owner: str
    token: int


def acquire(
    connection: Connection, uid: str, owner: str, duration_ms: int, *, token_above: int = 0, version_above: int = 0
) -> Lease | None:
    """Lease a run; None while another owner has it. The same owner gets a new lease, with a larger token.

    Parameters
    ----------
    token_above, version_above
        Largest token and version that the disk has: those of the lease are larger.
    """

    def attempt(pipe: Pipeline) -> Lease | None:
        pipe.watch(keys.lease(uid), keys.fence(uid))
        holder: Any = pipe.get(keys.lease(uid))
        if holder not in (None, owner.encode()):
            return None
        token, version = _read(pipe, uid)
        lease = Lease(uid=uid, owner=owner, token=max(token, token_above) + 1)
        pipe.multi()
        _set(pipe, lease, duration_ms)
        pipe.hset(keys.fence(uid), "version", max(version, version_above))
        pipe.execute()
        return lease

    return _transaction(connection, attempt)


def renew(connection: Connection, lease: Lease, duration_ms: int) -> bool:
    """Renew a lease, also one that ran out or that Redis forgot; False when somebody else has, or had, a later one."""

    def attempt(pipe: Pipeline) -> bool:
        pipe.watch(keys.lease(lease.uid), keys.fence(lease.uid))
        holder: Any = pipe.get(keys.lease(lease.uid))
        if _read(pipe, lease.uid)[0] > lease.token or holder not in (None, lease.owner.encode()):
            return False
        pipe.multi()
        _set(pipe, lease, duration_ms)
        pipe.execute()
        return True

    return _transaction(connection, attempt)


def release(connection: Connection, lease: Lease) -> None:
    """Give a lease back, so that another worker can go on at once; nothing when it is lost."""

    def attempt(pipe: Pipeline) -> None:
        pipe.watch(keys.lease(lease.uid), keys.fence(lease.uid))
        holder: Any = pipe.get(keys.lease(lease.uid))
        if _read(pipe, lease.uid)[0] <= lease.token and holder == lease.owner.encode():
            pipe.multi()
            pipe.delete(keys.lease(lease.uid))
            pipe.execute()

    _transaction(connection, attempt)


def next_version(connection: Connection, lease: Lease, above: int = 0) -> int:
    """Return a number for a version of the maps: larger than `above`, and than all that were given before.

    Raises
    ------
    LeaseLostError
        There is a later lease.
    """

    def attempt(pipe: Pipeline) -> int:
        pipe.watch(keys.fence(lease.uid))
        token, version = _read(pipe, lease.uid)
        _check(token, lease)
        number = max(version, above) + 1
        pipe.multi()
        pipe.hset(keys.fence(lease.uid), mapping={"token": lease.token, "version": number})
        pipe.execute()
        return number

    return _transaction(connection, attempt)


@contextmanager
def fenced(connection: Connection, lease: Lease) -> Iterator[Pipeline]:
    """Collect commands that Redis does at the end of the block, all or none, and only without a later lease.

    Raises
    ------
    LeaseLostError
        There is a later lease.
    """
    with connection.pipeline() as pipe:
        pipe.watch(keys.fence(lease.uid))
        _check(_read(pipe, lease.uid)[0], lease)
        pipe.multi()
        yield pipe
        try:
            pipe.execute()
        except redis.WatchError:
            raise _lost(lease) from None


def forget(connection: Connection, uid: str) -> None:
    """End the lease of a run that was deleted; for some days a worker that had it before still writes nothing."""
    connection.expire(keys.fence(uid), _FORGET_S)
    connection.delete(keys.lease(uid))


def _transaction(connection: Connection, attempt: Callable[[Pipeline], T]) -> T:
    """Try until nobody changed what was watched meanwhile."""
    while True:
        with connection.pipeline() as pipe:
            try:
                return attempt(pipe)
            except redis.WatchError:
                continue


def _read(pipe: Pipeline, uid: str) -> tuple[int, int]:
    """Return the largest token and version that Redis knows; 0 for none."""
    found: Any = pipe.hmget(keys.fence(uid), "token", "version")
    token, version = (int(value or 0) for value in found)
    return token, version


def _set(pipe: Pipeline, lease: Lease, duration_ms: int) -> None:
    pipe.set(keys.lease(lease.uid), lease.owner, px=duration_ms)
    pipe.hset(keys.fence(lease.uid), "token", lease.token)


def _check(token: int, lease: Lease) -> None:
    if token > lease.token:
        raise _lost(lease)


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(f"run {lease.uid} has a later lease than number {lease.token} of {lease.owner}")
