"""Does the denoiser keep the beamline's pace? Lag of rows, evidence at the end of a scan, time until the final maps.

Times are read off the ids of Redis stream entries: one clock for everything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from quietbeam.app.demo import services, start_scan
from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection, connect, entries

from .live import LiveBenchmark, installation
from .quality import machine

_STATUS_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Fly scans, one after the other.

    Attributes
    ----------
    pause_s
        From the end of a scan until the next one is started; its own start-up comes on top.
    """

    shape: tuple[int, int]
    dwell_s: float = 0.001
    scans: int = 2
    pause_s: float = 5.0

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.shape[0]} x {self.shape[1]} at {1 / self.dwell_s:.0f} Hz"


QUICK = (Series(shape=(256, 256)), Series(shape=(128, 128)), Series(shape=(64, 64)))
STANDARD = (
    *QUICK,
    Series(shape=(256, 256), scans=10),
    Series(shape=(256, 256), dwell_s=0.0005, scans=4),
)


@dataclass(slots=True)
class ScanTimes:
    """What was seen of one scan; times in seconds of the Redis server's clock.

    Attributes
    ----------
    lag_s
        From the commit of each row to the first map that holds it.
    rows
        Rows of the map.
    """

    rows: int
    started: float = 0.0
    stopped: float = 0.0
    final: float = 0.0
    evidence_rows: int = 0
    steps: int = 0
    lag_s: list[float] = field(default_factory=list)

    @property
    def late_s(self) -> float:
        """From the stop document to the final maps."""
        return self.final - self.stopped


class _Watcher:
    """Follows all scans of a series."""

    def __init__(self, connection: Connection, rows: int) -> None:
        self._redis, self._rows = connection, rows
        self._cursors: dict[str, bytes] = dict.fromkeys((keys.DOCS, keys.ROWS, keys.MAPS), b"$")
        self._cursors = {stream: self._newest(stream) for stream in self._cursors}
        self._committed: dict[tuple[str, int], float] = {}
        self._next_status = 0.0
        self.scans: dict[str, ScanTimes] = {}

    def _newest(self, stream: str) -> bytes:
        last: Any = self._redis.xrevrange(stream, count=1)
        return last[0][0] if last else b"0-0"

    def poll(self) -> None:
        reply: Any = self._redis.xread(self._cursors, count=2000, block=50)  # type: ignore[arg-type]
        for stream, entry in entries(reply):
            self._cursors[stream] = entry.id
            at = int(entry.id.split(b"-")[0]) / 1000
            self._record(stream, entry.fields[b"run"].decode(), at, entry.fields)
        if time.monotonic() >= self._next_status:
            self._next_status = time.monotonic() + _STATUS_EVERY_S
            for uid, scan in self.scans.items():
                status = runs.read_status(self._redis, uid) if not scan.stopped else None
                if status is not None and status.evidence is not None:
                    scan.evidence_rows, scan.steps = status.evidence.rows, status.evidence.fine_tune_steps

    def _record(self, stream: str, uid: str, at: float, fields: Mapping[bytes, bytes]) -> None:
        if stream == keys.DOCS:
            if fields[b"name"] == b"start":
                self.scans[uid] = ScanTimes(self._rows, started=at)
            elif fields[b"name"] == b"stop" and uid in self.scans:
                self.scans[uid].stopped = at
        elif uid not in self.scans:
            return
        elif stream == keys.ROWS:
            self._committed.setdefault((uid, int(fields[b"row"])), at)
        else:
            for row in range(int(fields[b"first_row"]), int(fields[b"stop_row"])):
                committed = self._committed.pop((uid, row), None)
                if committed is not None:
                    self.scans[uid].lag_s.append(at - committed)
            if fields[b"final"] == b"1" and not self.scans[uid].final:
                self.scans[uid].final = at

    @property
    def waiting(self) -> int:
        """Number of scans that have ended and have no final maps yet."""
        return sum(bool(scan.stopped) and not scan.final for scan in self.scans.values())


def run_series(series: Series, folder: Path, *, seed: int, on_message: Callable[[str], object]) -> dict[str, Any]:
    """Scan in an installation of its own; return the figures of one row of the table."""
    settings, config = installation(folder, live_budget=120, final_budget=20)
    with services(settings, config):
        scans, most_waiting = _scan(series, settings, config, folder, seed)
    for scan in scans:
        on_message(f"{series.name}: final {scan.late_s:.1f} s after the stop, {scan.steps} steps before it")
    last = [scan.final - after.stopped for scan, after in pairwise(scans)]
    lags = [lag for scan in scans for lag in scan.lag_s]
    halves = [np.array(scan.lag_s) for scan in scans]
    return {
        "series": series.name,
        "scans": len(scans),
        "duration_s": round(float(np.mean([scan.stopped - scan.started for scan in scans])), 1),
        "lag_p95_s": round(float(np.percentile(lags, 95)), 2),
        "lag_worst_s": round(max(lags), 2),
        "lag_growth": round(
            float(np.median([np.median(x[len(x) // 2 :]) / np.median(x[: len(x) // 2]) for x in halves])), 2
        ),
        "evidence_share": [round(scan.evidence_rows / scan.rows, 3) for scan in scans],
        "steps": [scan.steps for scan in scans],
        "final_s": [round(scan.late_s, 1) for scan in scans],
        "final_before_the_next_ends": all(margin < 0 for margin in last),
        "most_waiting": most_waiting,
    }


def _scan(series: Series, settings: Settings, config: Path, folder: Path, seed: int) -> tuple[list[ScanTimes], int]:
    """Run the scans and wait for the final maps of the last; return their times and the longest queue."""
    connection = connect(settings.redis_url)
    watcher, most_waiting = _Watcher(connection, series.shape[0]), 0
    for number in range(series.scans):
        options = {
            "--shape": "x".join(map(str, series.shape)),
            "--detectors": 4,
            "--lines": LiveBenchmark().lines,
            "--dwell": series.dwell_s,
            "--seed": seed + number,
            "--counts": 5,
            "--mode": "fly",
            "--transport": "redis",
        }
        words = [str(word) for pair in options.items() for word in pair]
        scan = start_scan(config, folder / f"truth-{number}.npz", words)
        deadline = time.monotonic() + 120 + 3 * series.shape[0] * series.shape[1] * series.dwell_s
        while scan.poll() is None or len(watcher.scans) <= number or not list(watcher.scans.values())[number].stopped:
            watcher.poll()
            most_waiting = max(most_waiting, watcher.waiting)
            if scan.poll() not in (None, 0) or time.monotonic() > deadline:
                output = scan.stdout.read() if scan.stdout else ""
                raise ServiceError(f"the benchmark scan did not get through: {output[-500:]}")
        pause = time.monotonic() + series.pause_s
        while time.monotonic() < pause:
            watcher.poll()
    deadline = time.monotonic() + 600
    while watcher.waiting:
        watcher.poll()
        if time.monotonic() > deadline:
            raise ServiceError(f"no final maps within 600 s; see {settings.data_dir / 'logs'}")
    connection.close()
    for uid in watcher.scans:
        _check(uid, settings)
    return list(watcher.scans.values()), most_waiting


def _check(uid: str, settings: Settings) -> None:
    """Raise when a run was shown raw: its times would mean nothing."""
    connection = connect(settings.redis_url)
    status = runs.read_status(connection, uid)
    connection.close()
    if status is None or status.denoise_reason or status.evidence is None:
        raise ServiceError(f"the benchmark scan was shown raw: {status.denoise_reason if status else 'it is unknown'}")


def run_pace(
    folder: Path, chosen: Sequence[Series], *, seed: int, command: str, on_message: Callable[[str], object]
) -> Path:
    """Run all series and write ``pace.json`` and ``pace.md``; return the table's path."""
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"machine": machine(), "seed": seed, "command": command, "series": []}
    path = folder / "pace.md"
    for series in chosen:  # what is measured is kept when the next series fails
        with tempfile.TemporaryDirectory(prefix="quietbeam-pace-") as work:
            report["series"].append(run_series(series, Path(work), seed=seed, on_message=on_message))
        (folder / "pace.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        path.write_text(table(report), encoding="utf-8")
    return path


def table(report: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    return "\n".join(_table(report)) + "\n"


def _table(report: dict[str, Any]) -> Iterator[str]:
    yield "# Does the denoiser keep the beamline's pace?"
    yield ""
    yield f"Generated by `{report['command']}` on {report['machine']}; seed {report['seed']}."
    yield ""
    yield (
        "Fly scans of 8 lines and 4 detectors; RunEngine, Redis, Tiled and all stages on this machine. Lag: from the "
        "commit of a row to the first map that shows it denoised. Growth: median lag of the second half of a scan over "
        "that of the first. Rows with evidence and fine-tuning steps: when the stop document comes. Final: from the "
        "stop document to the final maps with evidence."
    )
    yield ""
    yield "| scans | lasting | lag p95 | lag worst | growth | rows with evidence | steps | final after | most waiting |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in report["series"]:
        shares = ", ".join(f"{100 * share:.0f} %" for share in row["evidence_share"])
        yield (
            f"| {row['scans']} x {row['series']} | {row['duration_s']:.0f} s | {row['lag_p95_s']:.2f} s | "
            f"{row['lag_worst_s']:.2f} s | {row['lag_growth']:.2f} | {shares} | {', '.join(map(str, row['steps']))} | "
            f"{', '.join(f'{s:.1f}' for s in row['final_s'])} s | {row['most_waiting']} |"
        )
