"""Tasks beside the requests: one that fails is logged, counted and begun again, never silently gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_S = 60.0
"""A task that ran for so long begins again after the shortest pause."""


async def keep_running(
    name: str,
    run: Callable[[], Awaitable[None]],
    count_failure: Callable[[str], None],
    *,
    is_closing: Callable[[], bool] = lambda: False,
) -> None:
    """Run a task until it is cancelled or the service closes; a failure, or an end before that, begins it again.

    Parameters
    ----------
    name
        Of the task, in log and metrics.
    count_failure
        Gets the name at every failure.
    """
    failures = 0
    while True:
        began = time.monotonic()
        try:
            await run()
            if is_closing():
                return
            reason = "it ended by itself"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        failures = 1 if time.monotonic() - began > _STEADY_S else failures + 1
        pause_s = _PAUSES_S[min(failures, len(_PAUSES_S)) - 1]
        count_failure(name)
        log.error("background_task_failed", task=name, error=reason, again_in_s=pause_s)
        await asyncio.sleep(pause_s)
