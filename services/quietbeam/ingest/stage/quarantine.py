"""Documents that cannot be used, kept in the stream ``qb:quarantine`` with the reason."""

from __future__ import annotations

from collections import OrderedDict

import structlog

from quietbeam.core.wire import bus
from quietbeam.core.wire.bus import Connection

from ..transports import ReceivedDocument

log = structlog.get_logger()

PER_RUN = 50
"""After so many of one run only every thousandth is kept."""
MAX_RUNS = 1000


class Quarantine:
    """Keeps refused documents, not too many of one run.

    Parameters
    ----------
    connection
        Redis client of the stage.
    """

    def __init__(self, connection: Connection) -> None:
        self._redis = connection
        self._counts: OrderedDict[str, int] = OrderedDict()

    def add(self, received: ReceivedDocument, uid: str, reason: str) -> None:
        """Keep a document of a run ('' when unknown)."""
        n = self._counts[uid] = self._counts.get(uid, 0) + 1
        self._counts.move_to_end(uid)
        while len(self._counts) > MAX_RUNS:
            self._counts.popitem(last=False)
        if n > PER_RUN and n % 1000:
            return
        name = received.name[:64]
        log.warning("document_quarantined", run=uid, name=name, reason=reason, n=n)
        bus.quarantine(self._redis, run=uid, name=name, reason=reason, payload=received.payload)
