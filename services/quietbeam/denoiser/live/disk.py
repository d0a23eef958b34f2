"""What a worker does while the disk takes nothing: it pauses all writing, and says so."""

from __future__ import annotations

import time

import structlog

from quietbeam.core.process.backoff import Backoff
from quietbeam.core.process.outage import disk_outage

log = structlog.get_logger()


class DiskOutage:
    """The trouble of one disk.

    Parameters
    ----------
    folder
        Where maps are written, for messages.
    """

    def __init__(self, folder: object) -> None:
        self._folder, self._backoff = folder, Backoff()

    @property
    def reason(self) -> str:
        """What is waited for; empty while maps can be written."""
        return self._backoff.reason

    def pauses(self) -> bool:
        """Return True while the next try is still to be awaited."""
        return self._backoff.pauses(time.monotonic())

    def begin(self, error: OSError) -> None:
        """Pause after an error of the disk; raise every other error."""
        reason = disk_outage(error, self._folder)
        if not reason:
            raise error
        if self._backoff.failed(f"{reason[:1].upper()}{reason[1:]}. Worker retries."):
            log.error("disk_unavailable", waits_for=self._backoff.reason, error=str(error))

    def end(self) -> None:
        """Note that something was written."""
        if self._backoff.succeeded():
            log.info("disk_writable_again")
