"""Looks through the files of finished runs, so that the list of runs names a damage before somebody meets it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import anyio.to_thread
import structlog

from quietbeam.buffer.damage import REMEDY
from quietbeam.buffer.examination import damages
from quietbeam.core.errors import DamagedRunError, NotMeasuredError

from .catalog import RunCatalog

log = structlog.get_logger()

PAUSE_S = 60.0
"""Between two looks through all runs."""
_SHARE = 0.2
"""Most of a core's time that the looks take."""
_LEAST_S = 0.02


class DamageWatch:
    """Notes the damage of runs that ended, the newest runs first.

    Parameters
    ----------
    root
        Folder of the run buffers.
    """

    def __init__(self, root: Path, catalog: RunCatalog) -> None:
        self._root, self._catalog = root, catalog

    async def run(self) -> None:
        """Look through all runs, again and again, until it is cancelled."""
        while True:
            for uid in await anyio.to_thread.run_sync(self._catalog.uids):
                started = time.monotonic()
                await anyio.to_thread.run_sync(self.examine, uid)
                await asyncio.sleep(max(_LEAST_S, (time.monotonic() - started) / _SHARE))
            await asyncio.sleep(PAUSE_S)

    def examine(self, uid: str) -> None:
        """Note the damage of a run that ended; a damage that is known is not looked for again."""
        try:
            status = self._catalog.status(uid)
            found = "" if status.damage or not status.state.ended else next(damages(self._root, uid), "")
        except NotMeasuredError:  # deleted meanwhile
            return
        except OSError as error:  # of the disk, not of this run
            log.warning("run_not_examined", run=uid, error=str(error))
            return
        if found:
            self._catalog.note_damage(DamagedRunError(found, remedy=REMEDY, uid=uid))
