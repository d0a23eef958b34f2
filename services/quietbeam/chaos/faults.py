"""The faults: what each does to an installation until its cause is gone again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import redis

from quietbeam.core import codec
from quietbeam.core.wire import keys

from .site import FAILPOINTS, LEASE_S, STAGES, Site

Act = Callable[[Site, random.Random], str]
"""Does the fault and ends it again; returns what was drawn, for the log."""
WORKERS = ("worker", "worker-2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault.

    Attributes
    ----------
    name
        As in the schedule and in tables.
    number
        Of the fault in the table of faults: F1 to F22; F0 for none.
    ends_at_once
        Nothing is held: recovery counts from the beginning.
    needs
        "disk" or "clock": what the machine must be able to do.
    """

    name: str
    number: str
    act: Act
    ends_at_once: bool = True
    needs: str = ""


def nothing(_site: Site, _draw: random.Random) -> str:
    """Do nothing: how long runs take to go on by themselves on this machine."""
    return ""


def kill(names: tuple[str, ...], site: Site, draw: random.Random) -> str:
    """Kill one of some programs (SIGKILL)."""
    name = draw.choice(names)
    site.end(name)
    return name


def kill_all(site: Site, _draw: random.Random) -> str:
    """Kill every stage at the same moment."""
    site.end(*STAGES)
    return ""


def terminate(site: Site, draw: random.Random) -> str:
    """Ask a stage to stop (SIGTERM); the supervisor starts it again."""
    name = draw.choice(STAGES)
    site.end(name, number=signal.SIGTERM)
    return name


def hold(names: tuple[str, ...], low: float, high: float, site: Site, draw: random.Random) -> str:
    """Stop a program for some seconds (SIGSTOP, SIGCONT)."""
    name, seconds = draw.choice(names), draw.uniform(low, high)
    site.hold(name, seconds)
    return f"{name} for {seconds:.1f} s"


def failpoint(name: str, site: Site, _draw: random.Random) -> str:
    """Let a stage end itself between an effect and what follows from it; nothing when it does not come there."""
    stage, marker = FAILPOINTS[name], site.markers[name]
    pid = site.pid(stage)
    marker.unlink()
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    reached = marker.exists()
    marker.touch()
    while reached and site.supervisor.pids().get(stage) == pid:
        time.sleep(0.01)
    return "" if reached else "not reached"


def refuse(kind: str, site: Site, draw: random.Random) -> str:
    """Let Redis refuse writes for some seconds."""
    seconds = draw.uniform(2, 8)
    begin, end = _REFUSALS[kind]
    try:
        begin(site)
        time.sleep(seconds)
    finally:
        end(site)
    return f"{seconds:.1f} s"


def fill(disk: str, site: Site, draw: random.Random) -> str:
    """Fill a disk for some seconds, also for longer than Redis is started again at once."""
    seconds = draw.uniform(2, 20)
    try:
        site.disks[disk].fill()
        time.sleep(seconds)
    finally:
        site.disks[disk].clear()
    return f"{seconds:.1f} s"


def step_clock(hours: float, site: Site, draw: random.Random) -> str:
    """Step the wall clock of every program, servers included, and some seconds later back."""
    assert site.clock is not None
    seconds = draw.uniform(3, 8)
    site.clock.step(3600 * hours)
    time.sleep(seconds)
    site.clock.step(0)
    return f"{hours:+g} h for {seconds:.1f} s"


def poison(site: Site, draw: random.Random) -> str:
    """Send documents that cannot be used."""
    nested: Any = 0
    for _ in range(400):
        nested = [nested]
    uid = f"poison-{draw.getrandbits(40):x}"
    event = {"uid": "e", "descriptor": "nobody's", "seq_num": 1, "time": 0, "data": {}, "timestamps": {}, "filled": {}}
    start = {"uid": uid, "time": 1e300, "scan_id": 1, "plan_name": "x", "shape": [2**40, 2**40], "num_points": -1}
    hostile: list[tuple[str, bytes]] = [
        ("event", bytes(draw.getrandbits(8) for _ in range(300))),
        ("event", b""),
        ("nonsense", codec.pack(event)),
        ("event", codec.pack(event)),
        ("event", codec.pack(event | {"seq_num": float("nan")})),
        ("event", codec.pack(event | {"data": "no mapping"})),
        ("event_page", codec.pack(event)),
        ("start", codec.pack(start)),
        ("start", codec.pack({"uid": "../../" + uid})),
        ("descriptor", codec.pack({"uid": "d", "run_start": uid, "data_keys": {"a": {"shape": [-1]}}})),
        ("stop", codec.pack({"run_start": uid})),
        ("datum", b"\x93\xc1\xff"),
        ("event", b"\x91" * 4000 + b"\x00"),
    ]
    draw.shuffle(hostile)
    for name, payload in hostile:
        site.redis.xadd(keys.DOCS, {"name": name, "run": uid, "doc": payload})
    site.redis.xadd(keys.DOCS, {"nothing": "as expected"})
    return f"{len(hostile) + 1} documents"


def duplicate(site: Site, draw: random.Random) -> str:
    """Send documents again, in another order, that were sent before."""
    newest: Any = site.redis.xrevrange(keys.DOCS, count=300)
    again = [fields for _, fields in newest if fields.get(b"name") in (b"event", b"stream_datum")]
    draw.shuffle(again)
    for fields in again[:60]:
        site.redis.xadd(keys.DOCS, fields)
    return f"{min(60, len(again))} documents"


def _set(**values: object) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        for name, value in values.items():
            site.redis.config_set(name.replace("_", "-"), str(value))

    return change


def _fail_to_save(site: Site) -> None:
    """Let a background save fail: its process is killed while it saves."""
    _set(save="3600 1000000", stop_writes_on_bgsave_error="yes", rdb_key_save_delay=10_000_000)(site)
    site.redis.bgsave()
    server = psutil.Process(site.pid("redis"))
    deadline = time.monotonic() + 10
    while not (savers := server.children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    for saver in savers:
        with suppress(psutil.NoSuchProcess):
            saver.kill()


def _replica(of: tuple[str, str]) -> Callable[[Site], None]:
    return lambda site: site.redis.execute_command("REPLICAOF", *of)


_REFUSALS: dict[str, tuple[Callable[[Site], None], Callable[[Site], None]]] = {
    "OOM": (_set(maxmemory=1), _set(maxmemory=0)),
    "NOREPLICAS": (_set(min_replicas_to_write=1), _set(min_replicas_to_write=0)),
    "READONLY": (_replica(("127.0.0.1", "1")), _replica(("NO", "ONE"))),
    "MISCONF": (_fail_to_save, _set(stop_writes_on_bgsave_error="no", save="", rdb_key_save_delay=0)),
}


def all_faults() -> tuple[Fault, ...]:
    """Return every kind of fault."""
    kills = [
        Fault(name=f"kill {name}", number=number, act=partial(kill, names))
        for name, number, names in (
            ("ingest", "F1", ("ingest",)),
            ("worker", "F1", WORKERS),
            ("publish", "F1", ("publish",)),
            ("serve", "F1", ("serve",)),
            ("redis", "F3", ("redis",)),
            ("tiled", "F5", ("tiled",)),
        )
    ]
    holds = [
        Fault(name=f"stop {name}", number=number, act=partial(hold, names, low, high), ends_at_once=False)
        for name, number, names, low, high in (
            ("worker past its lease", "F1", WORKERS, 1.25 * LEASE_S, 2.5 * LEASE_S),
            ("ingest", "F1", ("ingest",), 2, 8),
            ("publish", "F1", ("publish",), 2, 8),
            ("serve", "F1", ("serve",), 2, 8),
            ("redis", "F3", ("redis",), 2, 15),
            ("tiled", "F5", ("tiled",), 2, 15),
        )
    ]
    refusals = [
        Fault(name=f"redis refuses: {kind}", number="F4", act=partial(refuse, kind), ends_at_once=False)
        for kind in _REFUSALS
    ]
    failpoints = [Fault(name=f"end at {name}", number="F2", act=partial(failpoint, name)) for name in FAILPOINTS]
    disks = [
        Fault(name=f"disk of {what} full", number="F13", act=partial(fill, disk), ends_at_once=False, needs="disk")
        for what, disk in (("runs", "runs"), ("everything else", "data"))
    ]
    clocks = [
        Fault(name=f"clock {h:+d} h", number="F14", act=partial(step_clock, h), ends_at_once=False, needs="clock")
        for h in (1, -1)
    ]
    others = [
        Fault(name="nothing, to compare", number="F0", act=nothing),
        Fault(name="kill every stage", number="F1", act=kill_all),
        Fault(name="ask a stage to stop", number="F20", act=terminate),
        Fault(name="poison", number="F7", act=poison),
        Fault(name="duplicates", number="F6", act=duplicate),
    ]
    return (*kills, *holds, *refusals, *failpoints, *disks, *clocks, *others)


def possible(site: Site) -> tuple[Fault, ...]:
    """Return the kinds of fault that this machine can do to an installation."""
    able = {"": True, "disk": bool(site.disks), "clock": site.clock is not None}
    return tuple(fault for fault in all_faults() if able[fault.needs])


def act(fault: Fault, site: Site, draw: random.Random) -> str:
    """Do a fault; one that Redis does not take, because it is away or loading, is tried again."""
    for _ in range(60):
        try:
            return fault.act(site, draw)
        except redis.RedisError:
            time.sleep(0.5)
    return "not possible: Redis did not answer"
