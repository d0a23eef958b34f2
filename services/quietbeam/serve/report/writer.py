"""Reports as files: written when a run has its final maps, removed when the run is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from quietbeam.buffer.run_buffer import run_path
from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.wire.runs import RunStatus

from ..live.hub import EventHub
from ..live.server_events import ZERO, ServerEvent
from ..state.maps import MapReader
from ..state.units import UnitTable
from .page import make_report

log = structlog.get_logger()


def write_report(status: RunStatus, maps: MapReader, folder: Path, units: UnitTable | None = None) -> Path:
    """Write the page to ``folder/UID.html``, in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{status.uid}.html"
    partial = path.with_suffix(".partial")
    partial.write_text(make_report(status, maps, units), encoding="utf-8")
    partial.replace(path)
    return path


class ReportWriter:
    """Writes the report of every run whose final maps are announced.

    Parameters
    ----------
    hub
        Announces final maps and deleted runs.
    status_of
        Returns the state of a run.
    folder
        Where the files lie.
    count_failure
        Called for every report that could not be written or removed; the reports after it are still written.
    units
        Has the areal densities.
    """

    def __init__(
        self,
        hub: EventHub,
        status_of: Callable[[str], RunStatus],
        maps: MapReader,
        folder: Path,
        count_failure: Callable[[], None],
        units: UnitTable | None = None,
    ) -> None:
        self._units = units
        self._hub, self._status_of, self._maps, self._folder = hub, status_of, maps, folder
        self._count_failure = count_failure
        self._position = ZERO

    async def run(self) -> None:
        """Follow the events until the service ends, the kept ones first; called again, it goes on where it was."""
        async for batch in self._hub.after(self._position):
            for event in batch:
                await self._handle(event)
                self._position = event.id or self._position

    async def _handle(self, event: ServerEvent) -> None:
        if event.type not in ("map", "run") or not event.run:
            return
        try:
            if event.data.get("final") and not self._is_written(event):
                path = await asyncio.to_thread(self._write, event.run)
                log.info("report_written", run=event.run, path=str(path))
            elif event.data.get("state") == "deleted":
                run_path(self._folder, event.run).with_suffix(".html").unlink(missing_ok=True)
        except NotMeasuredError:
            log.info("report_not_written", run=event.run, reason="the run is deleted")
        except Exception as error:
            self._count_failure()
            log.error("report_failed", run=event.run, error=f"{type(error).__name__}: {error}")

    def _is_written(self, event: ServerEvent) -> bool:
        """Return whether the report is there and younger than the event."""
        path = run_path(self._folder, event.run or "").with_suffix(".html")
        return event.id is not None and path.exists() and path.stat().st_mtime * 1000 > event.id.ms

    def _write(self, uid: str) -> Path:
        return write_report(self._status_of(uid), self._maps, self._folder, self._units)
