"""What happened: one record for each fault and each round, kept as JSON lines while it happens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quietbeam.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One fault that was done.

    Attributes
    ----------
    fault, number, detail
        Which one, and what was drawn.
    at_s
        Seconds since the beginning.
    held_s
        How long its cause was there.
    back_s, whole_s
        Seconds from its end until every program was ready, and until every stage had gone on with every run.
    start_cpu_s
        Processor time until then of the slowest program that had been started anew; 0 where none had.
    runs
        Runs that were being scanned.
    missing
        What did not go on; empty when all did.
    load
        Load of the machine (processes that want to run, mean of a minute).
    """

    fault: str
    number: str
    detail: str
    at_s: float
    held_s: float
    back_s: float
    whole_s: float
    runs: int
    start_cpu_s: float = 0.0
    missing: str = ""
    load: float = 0.0


@dataclass(slots=True, kw_only=True)
class Round:
    """Some scans of every lane with faults, then calm, then a comparison of everything.

    Attributes
    ----------
    pixels, lost, doubled
        Pixels that were compared; of these not there; there with other counts, or never measured.
    calm_s
        Seconds from the last document until every run had its final maps and all was compared.
    memory_mb
        Memory of each program at the end.
    """

    number: int
    faults: list[Done] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    pixels: int = 0
    lost: int = 0
    doubled: int = 0
    calm_s: float = 0.0
    memory_mb: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


class Log:
    """A file of JSON lines; each line is there before the next thing is done."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, kind: str, value: Any) -> None:
        """Append a dataclass or a mapping."""
        fields = value if isinstance(value, dict) else asdict(value)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **fields}, ensure_ascii=False) + "\n")


def read_rounds(path: Path) -> list[Round]:
    """Return the rounds in a log of :class:`Log`.

    Raises
    ------
    InputError
        It is no such log.
    """
    rounds = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = json.loads(line)
            if fields.pop("kind") == "round":
                faults = [Done(**fault) for fault in fields.pop("faults")]
                rounds.append(Round(faults=faults, **fields))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no log of chaos: {error}") from error
    return rounds
