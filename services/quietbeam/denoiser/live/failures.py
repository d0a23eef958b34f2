"""Runs that the denoiser failed on: what people are told of them, and when each is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable

from quietbeam.core.process.backoff import Backoff

_FIRST_S, _LONGEST_S = 30.0, 3600.0
_MOST_NAMED = 3


def explain(uid: str, error: Exception, *, refining: bool = False) -> str:
    """Return in plain words what a failure of the denoiser costs, why it happened, and what happens next."""
    costs = "could not be refined; its final maps stay" if refining else "could not be denoised; its raw map is shown"
    detail = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        why = f"the worker has too little memory ({detail}): give it more, or lower denoise.max_live_bytes"
    elif isinstance(error, OSError):
        why = f"a file could not be read or written ({detail})"
    else:
        why = f"internal error ({detail}), see the log of the worker"
    return f"Run {uid} {costs}. Cause: {why}. The worker tries again after a pause, and when it is started."


class Failures:
    """The runs whose last try failed, with growing pauses between tries. A new worker tries all of them at once."""

    def __init__(self) -> None:
        self._pauses: dict[str, Backoff] = {}
        self._sentences: dict[str, str] = {}

    def add(self, uid: str, sentence: str) -> None:
        """Note that a try of a run failed, and why."""
        self._pauses.setdefault(uid, Backoff(first_s=_FIRST_S, longest_s=_LONGEST_S)).failed(sentence)
        self._sentences[uid] = sentence

    def begin(self, uid: str) -> None:
        """Note that a run is tried again; the pause after another failure is longer."""
        self._sentences.pop(uid, None)

    def pauses(self, uid: str) -> bool:
        """Return True while the next try of a run is still to be awaited."""
        return uid in self._pauses and self._pauses[uid].pauses(time.monotonic())

    def forget(self, uid: str) -> None:
        """Forget a run that succeeded or is gone."""
        self._pauses.pop(uid, None)
        self._sentences.pop(uid, None)

    def keep(self, is_there: Callable[[str], bool]) -> None:
        """Forget the runs that are gone."""
        for uid in [uid for uid in self._pauses if not is_there(uid)]:
            self.forget(uid)

    def __len__(self) -> int:
        """Return the number of runs whose last try failed."""
        return len(self._sentences)

    @property
    def reason(self) -> str:
        """What is wrong, for the heartbeat; empty while nothing is."""
        named = list(self._sentences.values())
        more = len(named) - _MOST_NAMED
        return " ".join(named[:_MOST_NAMED]) + (f" {more} more runs failed, too." if more > 0 else "")
