"""Rounds of scans and faults in one installation, and what was found."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from .faults import Fault, act, possible
from .lanes import Lane
from .observe import errors_in, memory_mb
from .progress import Progress
from .record import Done, Log, Round
from .site import Site
from .verify import Verifier, copy_evidence
from .versions import VersionWatch

STANDSTILL_S = 180.0
"""For so long nothing may happen while final maps are awaited."""
_ROUND_SCANS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is done.

    Attributes
    ----------
    minutes
        No round begins after this time.
    scans
        Scans at once.
    dwell_s
        Seconds per pixel.
    """

    minutes: float
    seed: int = 0
    scans: int = 3
    dwell_s: float = 0.04

    @property
    def repeat(self) -> int:
        """Scans that every lane does in a round."""
        return max(1, min(_ROUND_SCANS, int(60 * self.minutes / (700 * self.dwell_s))))


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Everything that was found.

    Attributes
    ----------
    exits
        Programs that ended although nobody ended them.
    errors
        Errors in the logs, by stage and event.
    skipped
        What this machine could not do, and why.
    versions
        Versions of maps that were seen.
    """

    extent: Extent
    rounds: list[Round] = field(default_factory=list)
    exits: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    versions: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> list[Done]:
        """Every fault, in order."""
        return [fault for one in self.rounds for fault in one.faults]

    @property
    def violations(self) -> list[str]:
        """Everything that must not be."""
        found = [text for one in self.rounds for text in one.violations]
        return found + [f"{how}, {n} times" for how, n in self.exits.items() if how.split(":")[0] not in SERVERS]


SERVERS = ("redis", "tiled")
"""An exit of these by themselves is an outage like another: Valkey ends when its disk is full."""


class Engine:
    """Does the rounds in an installation that is up.

    Parameters
    ----------
    faults
        Order in which faults are done.
    say
        Gets a line for each thing that happens.
    """

    def __init__(
        self, site: Site, extent: Extent, faults: Iterator[Fault], log: Log, say: Callable[[str], None]
    ) -> None:
        self._site, self._extent, self._faults, self._log, self._say = site, extent, faults, log, say
        self._draw = random.Random(f"{extent.seed}-what")
        self._lanes: list[Lane] = []
        self._earlier: list[str] = []
        self._began = time.monotonic()
        self._progress = Progress(site, self._uids)
        self._watch = VersionWatch(site, self._uids)
        self.outcome = Outcome(extent=extent, skipped=site.skipped)
        self.exhausted = False
        """True once the schedule has no more faults."""

    def __enter__(self) -> Engine:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self._lanes:
            lane.kill()
        self._watch.stop()
        self._progress.close()

    def round(self) -> Round:
        """Do one round."""
        one = Round(number=len(self.outcome.rounds) + 1)
        self.outcome.rounds.append(one)
        seen = len(self._watch.versions.violations)
        self._lanes = [
            Lane(
                self._site,
                lane,
                repeat=self._extent.repeat,
                dwell_s=self._extent.dwell_s,
                seed=1000 * self._extent.seed + 10 * one.number + lane,
            )
            for lane in range(self._extent.scans)
        ]
        self._wait_for(lambda: all(lane.uids or not lane.running for lane in self._lanes), 120)
        while any(lane.running for lane in self._lanes):
            time.sleep(self._draw.uniform(0.1, 1.5))
            fault = next(self._faults, None)
            self.exhausted = fault is None
            if fault is None:
                continue
            done = self._do(fault)
            one.faults.append(done)
            if done.missing:
                one.violations.append(f"{done.fault} at {done.at_s:.0f} s: did not go on: {done.missing}")
        one.violations += [text for lane in self._lanes if (text := lane.trouble())]
        self._compare(one)
        one.violations += self._watch.versions.violations[seen:]
        self._close_round(one)
        return one

    def _do(self, fault: Fault) -> Done:
        before, pids = self._progress.of_runs() or {}, self._site.supervisor.pids()
        began = time.monotonic()
        detail = act(fault, self._site, self._draw)
        ended = time.monotonic()
        since = began if fault.ends_at_once else ended
        baseline = before if fault.ends_at_once else self._progress.of_runs() or before
        found = self._progress.recovery(baseline, since, pids)
        done = Done(
            fault=fault.name,
            number=fault.number,
            detail=detail,
            at_s=round(began - self._began, 2),
            held_s=round(0.0 if fault.ends_at_once else ended - began, 2),
            back_s=round(found.back_s, 2),
            whole_s=round(found.whole_s, 2),
            runs=sum(not run.ended for run in baseline.values()),
            start_cpu_s=round(found.start_cpu_s, 1),
            missing=found.missing,
            load=round(os.getloadavg()[0], 1),
        )
        self._log.add("fault", done)
        self._say(
            f"{done.at_s:7.1f} s  {done.fault} {done.detail}: ready after {done.back_s:.1f} s, "
            f"{done.runs} runs went on after {done.whole_s:.1f} s{' NOT: ' + done.missing if done.missing else ''}"
        )
        return done

    def _compare(self, one: Round) -> None:
        """Wait until all is final, then compare every run of this round."""
        one.runs = [uid for lane in self._lanes for uid in lane.uids]
        began = time.monotonic()
        self._say(f"{began - self._began:7.1f} s  calm: waiting for the final maps of {len(one.runs)} runs")

        self._wait_until_final()
        verifier = Verifier(self._site)
        try:
            for uid in one.runs:
                wrong, compared = verifier.compare(uid)
                one.violations += wrong
                one.pixels += compared.pixels
                one.lost += compared.lost
                one.doubled += compared.extra + compared.wrong
        finally:
            verifier.close()
        one.calm_s = round(time.monotonic() - began, 1)

    def _wait_until_final(self) -> None:
        """Wait for the final maps of every run, as long as any run goes on."""
        last, deadline = None, time.monotonic() + STANDSTILL_S
        while time.monotonic() < deadline:
            found = self._progress.of_runs()
            if found is not None and all(run.final and run.tiled_final for run in found.values()):
                return
            if found != last:
                last, deadline = found, time.monotonic() + STANDSTILL_S
            time.sleep(0.2)

    def _close_round(self, one: Round) -> None:
        self._earlier += one.runs
        self._lanes = []
        one.memory_mb = memory_mb(self._site)
        if given_up := self._site.given_up():
            one.violations.append(f"given up: {', '.join(given_up)}")
        self.outcome.exits = dict(self._site.exits)
        self.outcome.versions = self._watch.versions.seen
        self.outcome.errors = errors_in(self._site.settings.data_dir / "logs")
        self.outcome.seconds = time.monotonic() - self._began
        self._log.add("round", one)
        self._say(
            f"round {one.number}: {len(one.faults)} faults, {len(one.runs)} runs, {one.pixels} pixels compared, "
            f"{len(one.violations)} violations"
        )
        for text in one.violations:
            self._say(f"  VIOLATION {text}")

    def _uids(self) -> list[str]:
        return self._earlier + [uid for lane in self._lanes for uid in list(lane.uids)]

    def _wait_for(self, holds: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.2)


def in_decks(faults: Sequence[Fault], seed: int) -> Iterator[Fault]:
    """Yield each fault once in a drawn order, then each again in another, without end."""
    draw = random.Random(f"{seed}-order")
    while True:
        deck = list(faults)
        draw.shuffle(deck)
        yield from deck


def run(
    extent: Extent,
    folder: Path,
    *,
    cannot_mount: str,
    say: Callable[[str], None],
    each_round: Callable[[Outcome], None] = lambda _: None,
    choose: Callable[[Sequence[Fault]], Iterator[Fault]] | None = None,
) -> Outcome:
    """Start an installation, do rounds until the time is over, and return what was found.

    Parameters
    ----------
    folder
        Empty; keeps a log, and after a violation the files that show it.
    cannot_mount
        Why disks cannot be filled here (:func:`quietbeam.chaos.machine.own_mounts`); empty when they can.
    each_round
        Called after every round.
    choose
        Orders the possible faults; no round begins once it has no more. Default: decks drawn from the seed.
    """
    with ExitStack() as stack:
        site = stack.enter_context(Site(folder, cannot_mount=cannot_mount, report=lambda _: None))
        faults = choose(possible(site)) if choose else in_decks(possible(site), extent.seed)
        engine = stack.enter_context(Engine(site, extent, faults, Log(folder / "chaos.jsonl"), say))
        deadline = time.monotonic() + 60 * extent.minutes
        while not engine.outcome.rounds or (time.monotonic() < deadline and not engine.exhausted):
            one = engine.round()
            each_round(engine.outcome)
            if one.violations:
                copy_evidence(site, [uid for uid in one.runs if any(uid in text for text in one.violations)], folder)
    return engine.outcome
