"""The table of a batch: a line a file, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .job import Outcome, as_row

COLUMNS = ("file", "lines", "dwell gain", "verdict", "seconds", "status", "error")


def write_report(output: Path, outcomes: Sequence[Outcome], command: str) -> Path:
    """Write ``report.md`` and ``report.csv`` into the output folder; return the first.

    Raises
    ------
    OSError
        They cannot be written.
    """
    rows = [as_row(outcome) for outcome in sorted(outcomes, key=lambda one: one.source)]
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    _replace(output / "report.csv", table.getvalue())
    lines = [
        "# Batch",
        "",
        f"`{command}`",
        "",
        f"{summary(outcomes)}. The dwell gain is the median over the lines that were tested.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(_cell(str(row[name])) for name in COLUMNS)} |" for row in rows),
        "",
    ]
    path = output / "report.md"
    _replace(path, "\n".join(lines))
    return path


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many files there are of each status: ``7 done, 1 failed``."""
    counts = Counter(one.status for one in outcomes)
    found = [f"{counts[one]} {one}" for one in ("done", "done before", "left out", "failed") if counts[one]]
    return ", ".join(found) or "nothing is finished"


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".quietbeam-{os.getpid()}-{path.name}")
    try:
        # names of files may be no text
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
