"""Stop commands by signal at random moments, and report which hang: ``python -m tests.stops --stops 300 replay``.

Every stop is a process of its own, most of them forked from this one, which has imported what the commands need: such a
start takes a fraction of a second. Commands run with a real Valkey and with scans that are sent all the time; no Tiled
answers.
"""

from __future__ import annotations

import argparse
import atexit
import faulthandler
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from quietbeam.cli import main
from quietbeam.core import codec
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import connect

from .conftest import ValkeyProcess
from .service.ingest_kit import Scan

COMMANDS = {
    "replay": ("MAP", "--speed", "2"),
    "simulate": ("--shape", "40x40", "--dwell", "0.01", "--lines", "Fe_Ka,Cu_Ka"),
    "record": ("-o", "OUT", "--runs", "0"),
    "ingest": (),
    "worker": ("--threads", "1", "--nice", "0"),
    "publish": (),
    "serve": ("--port", "0"),
}
RUNNING = {"replay": "pixels, replay of", "simulate": "pixels, ", "record": "recording ", "serve": '"serving"'}
"""What a command has printed when it does its work; stages log `stage_started`."""
PRELOADED = (
    "bluesky",
    "quietbeam.beamline.plans",
    "quietbeam.beamline.replay",
    "quietbeam.ingest.stage.service",
    "quietbeam.publish",
    "quietbeam.runengine.publisher",
    "quietbeam.serve",
)
SPAWNED = ("worker",)
"""Commands that start afresh: torch does not compute in a fork of a process that has imported it."""
BESIDE = {"worker": ("ingest",)}
"""What runs meanwhile, so that the command has something to do."""
START_S = 180.0
_BOTH = (signal.SIGINT, signal.SIGTERM)
EARLY = 0.2
"""Share of the signals that come at any moment after the start, before the command is ready too."""


@dataclass
class Outcome:
    """What the stops of one command came to."""

    exits: Counter[str] = field(default_factory=Counter)
    stop_s: list[float] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)

    def row(self, command: str) -> str:
        """Return a row of a Markdown table."""
        exits = ", ".join(f"{n} x {code}" for code, n in sorted(self.exits.items()))
        p50, p95 = np.percentile(self.stop_s, [50, 95]) if self.stop_s else (np.nan, np.nan)
        worst = max(self.stop_s, default=np.nan)
        n = len(self.stop_s) + len(self.hung)
        return f"| `{command}` | {n} | {len(self.hung)} | {p50:.2f} | {p95:.2f} | {worst:.2f} | {exits} |"


class Stop:
    """One process, from its start to its end after a signal."""

    def __init__(self, command: str, words: list[str], log: Path, draw: random.Random, window_s: float) -> None:
        self._log, self._marker = log, RUNNING.get(command, "stage_started")
        self._number = draw.choice([signal.SIGTERM, signal.SIGINT])
        self._delay_s = draw.uniform(0, window_s)
        self._started = time.monotonic()
        self._signal_at = self._started + self._delay_s if draw.random() < EARLY else None
        self._sent: float | None = None
        log.write_bytes(b"")
        signal.pthread_sigmask(signal.SIG_BLOCK, _BOTH)  # not before the child is in `_run`
        self.pid = os.fork()
        if self.pid == 0 and command in SPAWNED:
            _become([command, *words], log)
        elif self.pid == 0:
            _run([command, *words], log)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BOTH)

    def poll(self, outcome: Outcome, patience_s: float) -> bool:
        """Send the signal when it is due; return True when the process is over."""
        now = time.monotonic()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            outcome.stop_s.append(now - self._sent if self._sent is not None else 0.0)
            code = os.waitstatus_to_exitcode(status)
            outcome.exits[signal.Signals(-code).name if code < 0 else str(code)] += 1
            return True
        if self._signal_at is None and self._marker in self._log.read_text(errors="replace"):
            self._signal_at = now + self._delay_s
        if self._sent is None and self._signal_at is not None and now >= self._signal_at:
            os.kill(self.pid, self._number)
            self._sent = now
        overdue = self._sent is not None and now > self._sent + patience_s
        if overdue or (self._signal_at is None and now > self._started + START_S):
            os.kill(self.pid, signal.SIGUSR1)  # the stacks of its threads
            time.sleep(0.5)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            outcome.hung.append(self._log.read_text(errors="replace")[-6000:])
            return True
        return False


def _run(words: list[str], log: Path) -> None:
    """Be the command: never returns."""
    code = 1
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        atexit._clear()  # of libraries whose threads (EPICS) are those of the parent
        sys.argv = ["quietbeam", *words]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BOTH)
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        code = 130
    finally:
        sys.stdout.flush()
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter's own end does
        atexit._run_exitfuncs()
        os._exit(code)


def _become(words: list[str], log: Path) -> None:
    """Become a fresh Python that runs the command: never returns."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell ignores it for what runs in its background
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BOTH)
    code = "import faulthandler, signal; faulthandler.register(signal.SIGUSR1); from quietbeam.cli import main; main()"
    os.execv(sys.executable, [sys.executable, "-c", code, *words])


def _send_scans(urls: list[str]) -> None:
    """Send small scans to every server, for ever: never returns."""
    connections = [connect(url) for url in urls]
    for seed in range(10**6):
        for name, doc in Scan(6, 8, seed=seed).docs():
            for connection in connections:
                connection.xadd(keys.DOCS, {"name": name, "run": "", "doc": codec.pack(doc)}, maxlen=5000)
            time.sleep(0.02)


@contextmanager
def beside(command: str, slots: list[Path]) -> Iterator[None]:
    """Run in every slot what the command needs."""
    running = []
    for slot in slots:
        for other in BESIDE.get(command, ()):
            arguments = [sys.executable, "-m", "quietbeam", other, "-c", str(slot / "qb.yaml")]
            with (slot / f"{other}.log").open("wb") as log:
                running.append(subprocess.Popen(arguments, stdout=log, stderr=log))
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(command: str, stops: int, slots: list[Path], draw: random.Random, options: argparse.Namespace) -> Outcome:
    """Start and stop a command `stops` times, one process a slot at a time."""
    outcome, running, begun = Outcome(), {}, 0
    while begun < stops or running:
        for slot in slots:
            if slot not in running and begun < stops:
                begun += 1
                out = str(slot / f"out-{begun}.jsonl")
                replaced = {"MAP": str(slot / "map.npz"), "OUT": out}
                words = [replaced.get(word, word) for word in COMMANDS[command]]
                words += ["-c", str(slot / "qb.yaml")]
                running[slot] = Stop(command, words, slot / "log", draw, options.window)
            elif slot in running and running[slot].poll(outcome, options.patience):
                del running[slot]
        time.sleep(0.005)
    return outcome


def _slots(folder: Path, url: str, jobs: int) -> list[Path]:
    """Make a folder with config and data, and a database of its own, for each process at a time."""
    slots = []
    counts = np.random.default_rng(0).poisson(5.0, (2, 2, 60, 60))
    for number in range(jobs):
        slot = folder / str(number)
        slot.mkdir()
        np.savez(slot / "map.npz", counts=counts, lines=["P_Ka", "Fe_Ka"], dwell_s=0.003)
        values = {
            "data_dir": str(slot / "data"),
            "redis": {"url": f"{url}?db={number}"},
            "tiled": {"uri": "http://127.0.0.1:9/api/v1", "api_key": "none"},
            "denoise": {"device": "cpu"},
        }
        (slot / "qb.yaml").write_text(yaml.safe_dump(values))
        slots.append(slot)
    return slots


def stop_all(options: argparse.Namespace) -> int:
    """Measure every command and print the table; return 1 when a process hung."""
    for module in PRELOADED:
        importlib.import_module(module)
    folder = Path(tempfile.mkdtemp(prefix="qb-stops-"))
    valkey = ValkeyProcess()
    valkey.start()
    slots = _slots(folder, valkey.url, options.jobs)
    sender = os.fork()
    if sender == 0:
        _send_scans([f"{valkey.url}?db={number}" for number in range(options.jobs)])
    draw = random.Random(options.seed)
    hung: list[str] = []
    try:
        print("| command | stops | hung | median s | p95 s | worst s | exits |\n|---|---|---|---|---|---|---|")
        for command in options.commands or COMMANDS:
            with beside(command, slots):
                outcome = measure(command, options.stops, slots, draw, options)
            print(outcome.row(command), flush=True)
            hung += outcome.hung
    finally:
        os.kill(sender, signal.SIGKILL)
        os.waitpid(sender, 0)
        valkey.close()
        shutil.rmtree(folder, ignore_errors=True)
    for text in hung:
        print(f"\n--- hung ---\n{text}")
    return 1 if hung else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", choices=[*COMMANDS, []], help="default: all")
    parser.add_argument("--stops", type=int, default=40, help="stops of each command")
    parser.add_argument("--jobs", type=int, default=4, help="processes at a time")
    parser.add_argument("--window", type=float, default=1.0, help="signals come at most so many seconds later")
    parser.add_argument("--patience", type=float, default=20.0, help="a process that takes longer to stop has hung")
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(stop_all(parser.parse_args()))
