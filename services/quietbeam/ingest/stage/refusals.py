"""Documents that are refused: each goes to the quarantine, is counted, and its run says so."""

from __future__ import annotations

from collections import deque

import redis

from quietbeam.core.wire.bus import Connection

from ..documents.delivery import Deliveries, Pending
from ..run.results import Refused
from ..transports import ReceivedDocument
from .announcer import Announcer
from .quarantine import Quarantine
from .registry import RunRegistry


class Refusals:
    """Refuses documents at once, or those that a run refused after they had been handled.

    Parameters
    ----------
    connection
        Redis client of the stage.
    runs, deliveries, announcer
        Of the stage.
    """

    def __init__(self, connection: Connection, runs: RunRegistry, deliveries: Deliveries, announcer: Announcer) -> None:
        self._runs, self._deliveries, self._announcer = runs, deliveries, announcer
        self._quarantine = Quarantine(connection)
        self._later: deque[Refused] = deque()

    def refuse(self, received: ReceivedDocument, uid: str, reason: str) -> None:
        """Quarantine a document that cannot be used; its run goes on.

        Raises
        ------
        redis.RedisError
            Redis cannot take it.
        """
        run = self._runs.get(uid)
        if run is not None:
            run.router.condition.count_refused(reason)
        self._announcer.count("quietbeam_documents_quarantined_total")
        self._quarantine.add(received, uid, reason)

    def refuse_unknown(self, source: int, received: ReceivedDocument, uid: str, reason: str) -> None:
        """Quarantine a document that no run was given, and let it be acknowledged."""
        self.refuse(received, uid, reason)
        self._deliveries.deliver(uid, source, received.token).release()

    def refuse_delivered(self, uid: str, pending: Pending, received: ReceivedDocument, reason: str) -> None:
        """Quarantine a document that a run could not use; while Redis is away it is delivered again."""
        try:
            self.refuse(received, uid, reason)
        except redis.RedisError:
            self._deliveries.withdraw(uid, pending)
            raise

    def give_up_stray(self, source: int, received: ReceivedDocument) -> bool:
        """Refuse a document whose run never became known; returns True: it needs no other try."""
        self.refuse_unknown(source, received, "", f"{received.name} of a run whose descriptor was not seen")
        return True

    def add(self, refused: list[Refused]) -> None:
        """Quarantine these with the next :meth:`flush`."""
        self._later += refused

    def flush(self) -> None:
        """Quarantine what runs refused after its document had been handled."""
        while self._later:
            refused = self._later[0]
            received = ReceivedDocument(token=b"", name=refused.name, run=refused.run, payload=b"")
            self._quarantine.add(received, refused.run, refused.reason)
            self._announcer.count("quietbeam_documents_quarantined_total")
            self._later.popleft()
