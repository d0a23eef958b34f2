"""Scans by RunEngines in processes of their own, several at once, again and again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence

from quietbeam.app.child import PARENT_DEATH

from .site import Site

_STARTED = re.compile(r"^run (\S+): \d+ x \d+ pixels")
_KINDS: Sequence[tuple[str, str, int]] = (("snake", "24x24", 3), ("step", "20x28", 2), ("fly", "28x20", 4))
"""Mode, shape and detectors of the lanes; more lanes repeat them."""
LINES = "P_Ka,Ca_Ka,Fe_Ka"


class Lane:
    """One RunEngine that scans a map some times.

    Attributes
    ----------
    uids
        Runs that it began.
    """

    def __init__(self, site: Site, number: int, *, repeat: int, dwell_s: float, seed: int) -> None:
        mode, shape, detectors = _KINDS[number % len(_KINDS)]
        self.uids: list[str] = []
        self._name = f"lane {number} ({mode} {shape})"
        options = {
            "shape": shape,
            "mode": mode,
            "detectors": detectors,
            "dwell": dwell_s,
            "seed": seed,
            "lines": LINES,
            "counts": 6,
            "repeat": repeat,
            "truth": site.truths,
            "config": site.config,
        }
        site.truths.mkdir(exist_ok=True)
        words = [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid())]
        words += [sys.executable, "-u", "-m", "quietbeam", "simulate", *(f"--{k}={v}" for k, v in options.items())]
        self._process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._last: list[str] = []
        self._reader = threading.Thread(target=self._read, name=self._name, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """True while it scans."""
        return self._process.poll() is None

    def trouble(self) -> str:
        """Return why it did not scan to its end; empty when it did."""
        self._reader.join(10)
        code = self._process.wait(10)
        return f"{self._name} ended with exit code {code}: {' | '.join(self._last[-3:])}" if code else ""

    def kill(self) -> None:
        """End it at once."""
        if self.running:
            self._process.kill()
        self._process.wait(10)
        self._reader.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if found := _STARTED.match(line):
                    self.uids.append(found[1])
                self._last = [*self._last[-5:], line.strip()]
