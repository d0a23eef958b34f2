"""What programs hold in memory, and which errors they logged."""

from __future__ import annotations

from pathlib import Path

import orjson
import psutil

from .site import Site


def memory_mb(site: Site) -> dict[str, int]:
    """Return the memory of each program in MiB."""
    found = {}
    for name, pid in site.supervisor.pids().items():
        try:
            found[name] = psutil.Process(pid).memory_info().rss // 2**20
        except psutil.NoSuchProcess:
            continue
    return found


def errors_in(logs: Path) -> dict[str, int]:
    """Return how often each error was logged, by "STAGE: EVENT"."""
    found: dict[str, int] = {}
    for path in sorted(logs.glob("*.log*")):
        for line in path.read_bytes().splitlines():
            if b'"error"' not in line and b'"critical"' not in line:
                continue
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
                name = f"{path.name.partition('.')[0]}: {entry.get('event')}"
                found[name] = found.get(name, 0) + 1
    return found
