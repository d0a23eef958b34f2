"""What a worker does while a disk takes nothing: it pauses what it would write, run by run, and says so."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from quietbeam.core.process.backoff import Backoff
from quietbeam.core.process.outage import disk_outage

log = structlog.get_logger()


class DiskOutage:
    """The trouble of writing one run: a folder that cannot be written costs other runs nothing.

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

    def begin(self, error: OSError) -> bool:
        """Pause after an error of the disk; False when the error is none."""
        reason = disk_outage(error, self._folder)
        if not reason:
            return False
        if self._backoff.failed(f"{reason[:1].upper()}{reason[1:]}. Worker retries."):
            log.error("disk_unavailable", waits_for=self._backoff.reason, error=str(error))
        return True

    def end(self) -> None:
        """Note that something was written."""
        if self._backoff.succeeded():
            log.info("disk_writable_again")


class DiskOutages:
    """The troubles of all runs.

    Parameters
    ----------
    folder
        Folder of the runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._of: dict[str, DiskOutage] = {}

    def of(self, uid: str) -> DiskOutage:
        """Return the trouble of one run."""
        return self._of.setdefault(uid, DiskOutage(self._folder / uid))

    def forget(self, uid: str) -> None:
        """Forget a run that is no longer written."""
        self._of.pop(uid, None)

    @property
    def reason(self) -> str:
        """What is waited for; empty while all runs can be written."""
        return next((outage.reason for outage in self._of.values() if outage.reason), "")
