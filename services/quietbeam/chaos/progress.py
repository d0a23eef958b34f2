"""How far the runs are, and how long after a fault every stage goes on with each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import httpx
import psutil
import redis

from quietbeam.core.wire import runs

from .site import Site

PATIENCE_S = 600.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far one run is.

    Attributes
    ----------
    pixels, maps, published
        Pixels on disk, version of the maps, version that Tiled has.
    ended, final, tiled_final
        No pixel, no map, no update of Tiled is to come.
    """

    pixels: int
    maps: int
    published: int
    ended: bool
    final: bool
    tiled_final: bool

    def went_on(self, before: RunProgress) -> bool:
        """Return True when every stage did something for the run since `before`, or has nothing left to do."""
        rows = self.pixels > before.pixels or self.ended
        maps = self.maps > before.maps or self.final or not before.maps
        tiled = self.published > before.published or self.tiled_final or not before.published
        return rows and maps and tiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Seconds from the end of a fault, or from the kill.

    Attributes
    ----------
    back_s
        Until every program ran and was ready.
    whole_s
        Until every stage had gone on with each run that was being scanned.
    start_cpu_s
        Processor time that the slowest of the programs which had been started anew took until then; 0 where none had.
    missing
        What did not go on in time; empty when all did.
    """

    back_s: float
    whole_s: float
    start_cpu_s: float = 0.0
    missing: str = ""


class Progress:
    """Looks at an installation from outside."""

    def __init__(self, site: Site, uids: Callable[[], Iterable[str]]) -> None:
        self._site, self._uids = site, uids
        self._done: set[str] = set()
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{site.settings.serve.port}",
            headers={"Authorization": f"Apikey {site.settings.serve_api_key()}"},
            timeout=2,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def of_runs(self, *, all_runs: bool = False) -> dict[str, RunProgress] | None:
        """Return the progress of the runs that are under way, or of all; None while Redis does not answer."""
        found = {}
        for uid in list(self._uids()):
            if uid in self._done and not all_runs:
                continue
            try:
                status = runs.read_status(self._site.redis, uid)
            except (redis.RedisError, OSError):
                return None
            if status is None:
                continue
            progress = _progress(status)
            if progress.ended and progress.final and progress.tiled_final:
                self._done.add(uid)
            found[uid] = progress
        return found

    def serves(self) -> bool:
        """Return True when the API lists the runs."""
        try:
            return self._http.get("/api/v1/runs", params={"page[limit]": 1}).status_code == 200
        except httpx.HTTPError:
            return False

    def recovery(self, before: dict[str, RunProgress], since: float, pids: Mapping[str, int]) -> Recovery:
        """Wait until every run goes on that was being scanned `before`; `since` is when the fault ended (monotonic).

        Parameters
        ----------
        pids
            Of the programs before the fault.
        """
        waiting = {uid for uid, run in before.items() if not run.ended}
        back: float | None = None
        start_cpu_s, serves = 0.0, False
        while (now := time.monotonic()) < since + PATIENCE_S:
            if back is None and self._site.ready:
                back, start_cpu_s = now, self._start_cpu_s(pids)
            serves = serves or self.serves()
            found = self.of_runs(all_runs=False) or {}
            waiting -= {uid for uid in waiting if uid in self._done}
            waiting -= {uid for uid, run in found.items() if uid in before and run.went_on(before[uid])}
            if back is not None and serves and not waiting:
                whole_s = time.monotonic() - since
                return Recovery(back_s=back - since, whole_s=whole_s, start_cpu_s=start_cpu_s)
            time.sleep(_POLL_S)
        missing = [f"run {uid}" for uid in sorted(waiting)]
        missing += [] if serves else ["the API"]
        missing += [f"{n} is {s}" for n, s in self._site.supervisor.states().items() if s != "ready"]
        return Recovery(back_s=(back or now) - since, whole_s=now - since, missing=", ".join(missing))

    def _start_cpu_s(self, pids: Mapping[str, int]) -> float:
        took = 0.0
        for name, pid in self._site.supervisor.pids().items():
            if pid != pids.get(name, pid):
                with suppress(psutil.NoSuchProcess):
                    took = max(took, sum(psutil.Process(pid).cpu_times()[:2]))
        return took


def _progress(status: runs.RunStatus) -> RunProgress:
    return RunProgress(
        pixels=status.pixels_measured,
        maps=status.maps_version,
        published=status.publish_version,
        ended=status.state.ended,
        final=status.denoise_state in ("final", "failed", "raw_only"),
        tiled_final=status.publish_state == "final",
    )
