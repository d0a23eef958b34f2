"""Nothing is acknowledged before it is stored, and everything in the end, whatever the order, the errors, the kills."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, strategies
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from ingest_kit import Pipe, Scan

from quietbeam.buffer import RunBuffer
from quietbeam.core import codec
from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import RunState
from quietbeam.core.process import backoff
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.ingest.rows import open_row
from quietbeam.ingest.transports import MemorySource

ROWS, COLS = 2, 3
BAD = float("nan")


class CheckedSource(MemorySource):
    """Looks on disk, at every acknowledgement, for what is acknowledged."""

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self._runs_dir = runs_dir
        self.sent: list[tuple[str, int, float] | None] = []
        """(run, pixel, counts) of each document by its number; None when it brings no counts."""
        self.acknowledged: set[int] = set()

    def send_counts(self, scan: Scan, pixel: int, counts: float) -> None:
        self.sent.append((scan.uid, pixel, counts))
        name, doc = scan.event(pixel, **dict.fromkeys(scan.keys, counts))
        self.send(name, codec.pack(doc), scan.uid)

    def send_other(self, name: str, payload: bytes, run: str) -> None:
        self.sent.append(None)
        self.send(name, payload, run)

    def receive(self, timeout_s: float) -> Any:
        return super().receive(0.0)

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        for token in tokens:
            assert int(token) not in self.acknowledged, "acknowledged twice"
            self.acknowledged.add(int(token))
            if (document := self.sent[int(token)]) is not None:
                self._check(int(token), *document)
        super().acknowledge(tokens)

    def _check(self, number: int, run: str, pixel: int, counts: float) -> None:
        """On disk there is this document's value, or that of a later document of the same pixel."""
        later = {
            document[2] for document in self.sent[number:] if document is not None and document[:2] == (run, pixel)
        }
        found = self.on_disk(run, pixel)
        assert found in later or (found is None and any(value != value for value in later)), (run, pixel, counts, found)

    def on_disk(self, run: str, pixel: int) -> float | None:
        try:
            buffer = RunBuffer.open(self._runs_dir, run)
        except NotMeasuredError:
            return None
        row, col = divmod(pixel, COLS)
        return float(buffer.read_row(row).counts[0, 0, col]) if buffer.measured()[row, col] else None


class Disk:
    """Lets the disk fail for the next calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures = 0
        for name in ("create", "write_row", "update_state"):
            monkeypatch.setattr(RunBuffer, name, self._failing(getattr(RunBuffer, name)))

    def _failing(self, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*args, **options)

        return call


class Ingest(RuleBasedStateMachine):
    """Two runs, sent in any order, with rewinds, bad documents, disk errors and kills."""

    def __init__(self, settings: Settings, redis: Connection, folder: Path, disk: Disk) -> None:
        super().__init__()
        redis.flushall()
        disk.failures = 0
        self.disk = disk
        settings = settings.model_copy(update={"data_dir": folder})
        folder.mkdir()
        self.source = CheckedSource(settings.runs_dir)
        self.scans = [Scan(ROWS, COLS, detectors=1, seed=seed, uid=f"{folder.name}-{seed}") for seed in (1, 2)]
        self.heads = [[scan.start, scan.descriptor()] for scan in self.scans]
        self.last: dict[tuple[str, int], float] = {}
        self.counts = 0
        self.pipe = Pipe(settings, redis, self.source)

    @initialize(late=strategies.lists(strategies.booleans(), min_size=4, max_size=4))
    def begin(self, late: list[bool]) -> None:
        """Send start and descriptor documents, unless they are late."""
        for scan, head in zip(self.scans, self.heads, strict=True):
            for document in list(head):
                if not late.pop():
                    self._send_head(scan, head, document)

    @precondition(lambda self: any(self.heads))
    @rule()
    def send_a_late_head(self) -> None:
        for scan, head in zip(self.scans, self.heads, strict=True):
            for document in head[:1]:
                self._send_head(scan, head, document)

    @rule(run=strategies.integers(0, 1), pixels=strategies.lists(strategies.integers(0, ROWS * COLS - 1), max_size=6))
    def send_events(self, run: int, pixels: list[int]) -> None:
        """Measure pixels, some of them again."""
        for pixel in pixels:
            self.counts += 1
            self._send_counts(self.scans[run], pixel, float(self.counts))

    @rule(run=strategies.integers(0, 1), pixel=strategies.integers(0, ROWS * COLS - 1))
    def send_a_bad_value(self, run: int, pixel: int) -> None:
        self._send_counts(self.scans[run], pixel, BAD)

    @rule(run=strategies.integers(0, 1), known=strategies.booleans())
    def send_garbage(self, run: int, known: bool) -> None:
        self.source.send_other("event", b"\xc1", self.scans[run].uid if known else "")

    @rule(run=strategies.integers(0, 1))
    def send_an_event_outside_the_map(self, run: int) -> None:
        scan = self.scans[run]
        self.source.send_other("event", codec.pack(scan.event_of(99, scan.values(0))[1]), scan.uid)

    @rule(failures=strategies.integers(1, 4))
    def the_disk_is_full(self, failures: int) -> None:
        self.disk.failures = failures

    @rule(steps=strategies.integers(1, 3))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.pipe.stage.step()

    @rule()
    def kill(self) -> None:
        self.pipe.die()
        self.pipe = self.pipe.again()

    def teardown(self) -> None:
        try:
            self.disk.failures = 0
            for scan, head in zip(self.scans, self.heads, strict=True):
                for document in list(head):
                    self._send_head(scan, head, document)
                for pixel in range(ROWS * COLS):
                    if (scan.uid, pixel) not in self.last:
                        self.counts += 1
                        self._send_counts(scan, pixel, float(self.counts))
                self.source.send_other("stop", codec.pack(scan.stop()[1]), scan.uid)
            self.pipe.until(lambda: len(self.source.acknowledged) == len(self.source.sent))
            for (run, pixel), counts in self.last.items():
                expected = None if counts != counts else counts
                assert self.source.on_disk(run, pixel) == expected, self.pipe.status(run)
            for scan in self.scans:
                bad = any(counts != counts for (run, _), counts in self.last.items() if run == scan.uid)
                state = self.pipe.status(scan.uid).state
                assert state is (RunState.INCOMPLETE if bad else RunState.COMPLETE)
        finally:
            self.pipe.stage.close()

    def _send_head(self, scan: Scan, head: list[Any], document: Any) -> None:
        head.remove(document)
        self.source.send_other(document[0], codec.pack(document[1]), scan.uid)

    def _send_counts(self, scan: Scan, pixel: int, counts: float) -> None:
        self.last[scan.uid, pixel] = counts
        self.source.send_counts(scan, pixel, counts)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rows are written, and full disks tried again, after milliseconds."""
    for name, seconds in (("IDLE_S", 0.02), ("OPEN_S", 0.03), ("CHANGED_S", 0.01)):
        monkeypatch.setattr(open_row, name, seconds)
    for name in ("FIRST_S", "LONGEST_S"):
        monkeypatch.setattr(backoff, name, 0.002)
    yield


@pytest.mark.usefixtures("quick")
def test_nothing_is_acknowledged_before_it_is_stored_and_everything_in_the_end(
    settings: Settings, redis: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    folders = (tmp_path / f"e{number}" for number in range(10_000))
    run_state_machine_as_test(
        lambda: Ingest(settings, redis, next(folders), disk),
        settings=hypothesis_settings(
            max_examples=12, stateful_step_count=20, deadline=None, derandomize=True, phases=[Phase.generate]
        ),
    )
