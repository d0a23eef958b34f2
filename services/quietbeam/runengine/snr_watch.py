"""A plan that ends when its map has the wanted signal-to-noise ratio: opt-in, and never at the scan's expense.

It makes sense for plans that come back to the same pixels (passes that quietbeam adds up): more rows do not improve
the pixels that are there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import structlog
from bluesky import Msg
from bluesky.utils import RequestStop

from quietbeam.client.errors import NotFoundError, RefusedError
from quietbeam.client.http import Client
from quietbeam.core.errors import QuietbeamError

log = structlog.get_logger()

Plan = Generator[Any, Any, Any]

_UNKNOWN_S = 30.0
"""A run that quietbeam does not know after so long is not ingested."""


class SnrWatch:
    """Asks quietbeam at intervals whether a run has the wanted SNR, in its own thread.

    A missing answer counts as "no": without quietbeam the scan continues as planned.

    Parameters
    ----------
    client
        Client of the REST API; closed by :meth:`stop`.
    lines
        Lines that must all reach it; empty: every line of the run.
    estimate
        ``denoised``: the lower end of the dwell gain must be enough; ``raw``: without denoising.
    """

    def __init__(
        self, client: Client, snr: float, lines: Sequence[str] = (), *, estimate: str = "denoised", every_s: float = 2.0
    ) -> None:
        self._client, self._snr, self._lines, self._every_s = client, snr, tuple(lines), every_s
        self._factor = "factor_raw" if estimate == "raw" else "factor_denoised"
        self._stopped = threading.Event()
        self.reached = threading.Event()
        self._thread: threading.Thread | None = None
        self._warned: set[str] = set()

    def start(self, uid: str) -> None:
        """Watch a run."""
        self._thread = threading.Thread(target=self._watch, args=(uid,), name="snr-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the client."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        self._client.close()

    def _watch(self, uid: str) -> None:
        began = time.monotonic()
        while not self._stopped.wait(self._every_s):
            try:
                advice = self._client.run(uid).advice(self._snr)
            except NotFoundError as error:  # ingest learns of a run a moment after it began
                if time.monotonic() - began > _UNKNOWN_S:
                    self._warn(uid, f"quietbeam does not know this run after {_UNKNOWN_S:.0f} s ({error})")
                continue
            except RefusedError as error:  # asking on would lock out this address
                self._warn(uid, str(error))
                return
            except QuietbeamError as error:
                self._warn(uid, str(error), kind="no answer")
                continue
            missing = [line for line in self._lines if line not in advice]
            if advice and missing:
                self._warn(uid, f"the run has no line {', '.join(missing)}; its lines are {', '.join(advice)}")
            if self._is_reached(advice):
                log.info("snr_reached", run=uid, snr=self._snr)
                self.reached.set()
                return

    def _warn(self, uid: str, reason: str, *, kind: str = "") -> None:
        """Say once, or once for each kind of trouble, why the scan cannot be ended early."""
        if (kind or reason) not in self._warned:
            self._warned.add(kind or reason)
            log.warning("stop_at_snr_cannot_decide", run=uid, reason=reason, effect="the scan goes on to its end")

    def _is_reached(self, advice: dict[str, dict[str, Any]]) -> bool:
        wanted = self._lines or tuple(advice)
        factors = []
        for line in wanted:
            found = advice.get(line, {})
            # a line without an improved map is judged by its raw map
            factors.append(found.get(self._factor) or found.get("factor_raw"))
        return bool(factors) and all(factor is not None and factor <= 1.0 for factor in factors)


def stop_at_snr(
    plan: Plan,
    url: str,
    api_key: str,
    *,
    snr: float,
    lines: Sequence[str] = (),
    estimate: str = "denoised",
    every_s: float = 2.0,
    on: str = "checkpoint",
) -> Plan:
    """Return ``plan``, ended early and cleanly once quietbeam says that the wanted SNR is reached.

    The plan ends before one of its messages of the name ``on`` (a checkpoint by default: between points or rows), with
    its own clean-up, and its run closes with ``exit_status: success`` and the reason. Without an answer from quietbeam
    it runs to its end. Usable in a RunEngine, as in a queue server's start-up file.

    Parameters
    ----------
    url, api_key
        Of quietbeam's REST API.
    snr
        Wanted signal-to-noise ratio of a pixel, mean over the map (docs/how-to/stop-at-snr.md).
    lines
        Lines that must all have it; all when empty.
    """
    watch = SnrWatch(Client(url, api_key, timeout_s=5.0), snr, lines, estimate=estimate, every_s=every_s)
    try:
        return (yield from _until_reached(plan, watch, on, f"quietbeam: SNR {snr:g} reached"))
    finally:
        watch.stop()


def _until_reached(plan: Plan, watch: SnrWatch, on: str, reason: str) -> Plan:
    """Yield the messages of the plan; when the SNR is reached, throw the RunEngine's own request to stop into it."""
    is_open = False
    stopping = False
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            message = plan.send(answer) if error is None else plan.throw(error)
            error = None
            if message.command == on and watch.reached.is_set() and not stopping:
                stopping = True
                message = plan.throw(RequestStop(reason))  # the plan cleans up, and closes its run with success
        except StopIteration as end:
            return end.value
        except RequestStop:
            if not stopping:
                raise
            if is_open:
                yield Msg("close_run", exit_status="success", reason=reason)
            return None
        if stopping and message.command == "close_run" and not message.kwargs.get("reason"):
            message = message._replace(kwargs={**message.kwargs, "reason": reason})
        try:
            answer = yield message
        except GeneratorExit:
            plan.close()
            raise
        except BaseException as caught:
            error = caught
            continue
        if message.command == "open_run":
            is_open = True
            watch.start(str(answer))
        elif message.command == "close_run":
            is_open = False
