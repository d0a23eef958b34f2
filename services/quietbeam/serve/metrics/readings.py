"""What a scrape of ``/metrics`` reads: Redis, stages, streams, the run that is measured, the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from quietbeam.core.model.evidence import VERDICT_REASONS, RunEvidence
from quietbeam.core.model.types import RunState
from quietbeam.core.version import __version__
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.runs import RunStatus

from ..live.hub import EventHub
from ..state.catalog import RunCatalog

STAGES = ("ingest", "worker", "publish", "serve")
_NEWEST_RUNS = 50


def read_stages(connection: Connection) -> dict[str, dict[str, str]]:
    """Return the heartbeat of every stage; empty for one that is silent."""
    with connection.pipeline(transaction=False) as pipe:
        for name in STAGES:
            pipe.hgetall(keys.stage(name))
        replies: list[Any] = pipe.execute()
    return {
        name: {k.decode(): v.decode() for k, v in reply.items()} for name, reply in zip(STAGES, replies, strict=True)
    }


def _open_runs(connection: Connection) -> tuple[int, RunStatus | None]:
    """Return how many of the newest runs go on, and the newest of them; paused ones are counted only."""
    uids = runs.list_runs(connection, limit=_NEWEST_RUNS)
    with connection.pipeline(transaction=False) as pipe:
        for uid in uids:
            pipe.hget(keys.run(uid), "state")
        states = [value.decode() if value else "" for value in pipe.execute()]
    going = [uid for uid, state in zip(uids, states, strict=True) if state == RunState.RUNNING]
    paused = states.count(RunState.PAUSED)
    return len(going) + paused, runs.read_status(connection, going[0]) if going else None


def _waiting(connection: Connection) -> int:
    """Return how many documents no reader has taken from the stream yet."""
    if not connection.exists(keys.DOCS):
        return 0
    groups: Any = connection.xinfo_groups(keys.DOCS)
    lags = [group.get("lag") for group in groups]
    known = [int(lag) for lag in lags if lag is not None]
    return max(known) if known and len(known) == len(lags) else int(connection.xlen(keys.DOCS))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"quietbeam_{name}", text, value)


class Readings:
    """A collector of prometheus_client that keeps nothing: every value is read when it is asked for.

    Parameters
    ----------
    catalog, hub
        What is known of runs; the event streams.
    folder
        `data_dir`.
    """

    def __init__(self, catalog: RunCatalog, hub: EventHub, folder: Path) -> None:
        self._catalog, self._hub, self._folder = catalog, hub, folder

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        info = GaugeMetricFamily("quietbeam_build_info", "Always 1; the label is the version.", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info
        yield _gauge("event_viewers", "Open event streams: pages and programs that follow.", self._hub.viewers)
        yield CounterMetricFamily(
            "quietbeam_event_viewers_dropped",
            "Viewers dropped because they stopped reading. Growing: pages on a slow network; they come back.",
            self._hub.dropped,
        )
        yield from self._disk()
        up = self._catalog.redis_answers()
        yield _gauge("redis_up", "1 when Redis answers. 0: start it; nothing live moves.", up)
        if up:
            yield from self._redis()
        yield from self._stages()

    def _disk(self) -> Iterable[Metric]:
        try:
            disk = shutil.disk_usage(self._folder)
        except OSError:
            return
        yield _gauge("disk_free_bytes", "Free where data_dir lies. Near 0: no run can be buffered.", disk.free)
        yield _gauge("disk_size_bytes", "Size of the file system of data_dir.", disk.total)

    def _redis(self) -> Iterable[Metric]:
        nothing: dict[str, Any] = {}
        memory: Mapping[str, Any] = self._catalog.query_redis(lambda connection: connection.info("memory"), nothing)
        if memory:
            limit = int(memory.get("maxmemory") or memory.get("total_system_memory") or 0)
            yield _gauge("redis_memory_bytes", "Memory that Redis uses.", int(memory["used_memory"]))
            yield _gauge(
                "redis_memory_limit_bytes", "Its maxmemory, else the machine's memory. Full: documents spool.", limit
            )
        waiting = self._catalog.query_redis(_waiting, 0)
        yield _gauge("documents_waiting", "Documents in Redis that ingest has not read. Growing: too slow.", waiting)
        none_open: tuple[int, RunStatus | None] = (0, None)
        number, newest = self._catalog.query_redis(_open_runs, none_open)
        yield _gauge("runs_open", f"Runs that go on or pause, of the newest {_NEWEST_RUNS}.", number)
        if newest is not None:
            yield from self._run(newest)
        for name, value in self._catalog.query_redis(metrics.read, nothing).items():
            declared = metrics.METRICS[name]
            yield (CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily)(name, declared.help, value)

    def _run(self, status: RunStatus) -> Iterable[Metric]:
        """Yield what is only there while a run goes on; several at once: the newest."""
        if status.last_document_at is not None:
            age = max(0.0, time.time() - status.last_document_at)
            yield _gauge("open_run_data_age_seconds", "Since the last document of the run that goes on.", age)
        if status.info is not None:
            pixels = status.info.shape[0] * status.info.shape[1]
            done = status.pixels_measured / pixels
            yield _gauge("open_run_progress_ratio", "Measured part of the map, 0 to 1.", done)
        behind = max(0, status.rows_measured - status.denoise_rows)
        yield _gauge("open_run_rows_behind", "Rows measured that no denoised map holds yet.", behind)
        if status.evidence is not None:
            yield from _evidence(status.evidence)

    def _stages(self) -> Iterable[Metric]:
        stages: dict[str, dict[str, str]] = self._catalog.query_redis(read_stages, {})
        up = GaugeMetricFamily(
            "quietbeam_stage_up", "1 while a stage sends heartbeats. 0: its log says why.", labels=("stage",)
        )
        memory = GaugeMetricFamily(
            "quietbeam_stage_memory_bytes",
            "Memory of a stage's process; of several workers, the one that spoke last.",
            labels=("stage",),
        )
        for name in STAGES:
            beat = stages.get(name)
            up.add_metric((name,), 1.0 if beat else 0.0)
            if beat and "memory" in beat:
                memory.add_metric((name,), float(beat["memory"]))
        yield up
        yield memory


def _evidence(evidence: RunEvidence) -> Iterable[Metric]:
    gain = GaugeMetricFamily(
        "quietbeam_open_run_dwell_gain",
        "Dwell gain of a line's map: the lower end of its 95 % interval; 1 for kept_raw, none for not_tested.",
        labels=("line",),
    )
    for line in evidence.lines:
        least = line.dwell_gain if line.dwell_gain_low is None else line.dwell_gain_low
        if least is not None:
            gain.add_metric((line.line,), least)
    yield gain
    lines = GaugeMetricFamily(
        "quietbeam_open_run_lines",
        "Lines by verdict. All kept_raw or not_tested late in a scan: read the notes of its evidence.",
        labels=("verdict",),
    )
    verdicts = [line.verdict for line in evidence.lines]
    for verdict in VERDICT_REASONS:
        lines.add_metric((verdict,), verdicts.count(verdict))
    yield lines
