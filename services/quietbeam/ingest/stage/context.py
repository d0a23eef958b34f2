"""Documents that ingest needs after a restart, kept in Redis: start, descriptor, resource and stop of each run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection

from ..documents.model import Descriptor, Document, Resource, Start, Stop, StreamResource
from ..transports import ReceivedDocument

KEPT_S = 7 * 24 * 3600
_RANK = {"start": 0, "descriptor": 1, "stream_resource": 2, "resource": 2, "stop": 3}
_KINDS = (Start, Descriptor, StreamResource, Resource, Stop)

Context = dict[str, bytes]
"""Documents of one run as they came, by ``RANK:NAME:UID``; sorted keys are the order in which they are replayed."""


class ContextStore:
    """The hash ``qb:context:UID`` of each run.

    Parameters
    ----------
    connection
        Redis client of the stage.
    """

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def load(self, uid: str) -> Context:
        """Return what Redis has of a run, in the order in which it is replayed."""
        found: Any = self._redis.hgetall(keys.context(uid))
        return {field.decode(errors="replace"): found[field] for field in sorted(found)}

    def keep(self, uid: str, context: Context, document: Document, received: ReceivedDocument) -> None:
        """Keep a document, in `context` too, unless it is one of the data documents."""
        if not isinstance(document, _KINDS):
            return
        field = f"{_RANK[received.name]}:{received.name}:{getattr(document, 'uid', '') or uid}"
        with self._redis.pipeline() as pipe:
            pipe.hsetnx(keys.context(uid), field, received.payload)
            pipe.expire(keys.context(uid), KEPT_S)
            pipe.execute()
        context.setdefault(field, received.payload)

    def write_again(self, uid: str, context: Context) -> None:
        """Write everything again, after Redis lost it."""
        for field, payload in context.items():
            self._redis.hset(keys.context(uid), field, payload)

    def exists(self, uid: str) -> bool:
        """Return whether Redis has anything of a run."""
        return bool(self._redis.exists(keys.context(uid)))

    def defined_uids(self, uid: str) -> Iterator[str]:
        """Yield the uids of the descriptors and resources of a run."""
        fields: Any = self._redis.hkeys(keys.context(uid))
        for field in fields:
            _, name, defined = field.decode(errors="replace").split(":", 2)
            if name in ("descriptor", "resource"):
                yield defined
