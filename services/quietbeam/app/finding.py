"""What a check of `quietbeam doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check; `remedy` is empty when there is nothing to do."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""
