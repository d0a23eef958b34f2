"""State, reason and warnings of a run, as people see them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import RunState

log = structlog.get_logger()

MAX_WARNINGS = 50


class RunCondition:
    """What people are told of a run; kept beside its data as soon as it has a buffer.

    Parameters
    ----------
    uid
        Run uid.
    """

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.state = RunState.RUNNING
        self.reason = ""
        self.revision = 0
        """Grows with every change; whoever shows the condition compares it with what was shown before."""
        self.last_document = time.monotonic()
        self._warnings: dict[str, int] = {}
        self._refused = 0
        self._first_refusal = ""
        self._buffer: RunBuffer | None = None

    @property
    def warnings(self) -> list[str]:
        """Sentences for people."""
        sentences = [text if n == 1 else f"{text} ({n} times)" for text, n in self._warnings.items()]
        if self._refused:
            first = "" if self._first_refusal == self.reason else f", the first: {self._first_refusal}"
            sentences.append(f"{self._refused} document(s) could not be used{first}")
        return sentences

    def become(self, state: RunState, reason: str = "") -> None:
        """Change the state, in the buffer first.

        Raises
        ------
        OSError
            The buffer cannot be written; nothing has changed.
        """
        if (state, reason) == (self.state, self.reason):
            return
        if self._buffer is not None:
            self._buffer.update_state({"state": state.value, "reason": reason, "warnings": self.warnings})
        log.info("run_state", run=self.uid, state=state.value, reason=reason)
        self.state, self.reason = state, reason
        self.mark_changed()

    def keep_in(self, buffer: RunBuffer) -> None:
        """Keep the state beside the data of this buffer from now on."""
        buffer.update_state({"state": self.state.value})
        self._buffer = buffer

    def mark_changed(self) -> None:
        """Let the run be shown again."""
        self.revision += 1

    def withdraw(self, text: str) -> None:
        """Remove a sentence that is no longer true."""
        if self._warnings.pop(text, None) is not None:
            self.mark_changed()

    def warn(self, text: str, n: int = 1, *, once: bool = False) -> None:
        """Add a sentence that is true `n` times; equal sentences are counted, unless it is to stand there once."""
        if once and text in self._warnings:
            return
        if text not in self._warnings and len(self._warnings) >= MAX_WARNINGS:
            text = "more warnings were left out"
        self._warnings[text] = self._warnings.get(text, 0) + n
        self.mark_changed()

    def count_refused(self, reason: str) -> None:
        """Count a document that could not be used."""
        self._first_refusal = self._first_refusal or reason
        self._refused += 1
        self.mark_changed()

    def restore(self, state: RunState, warnings: Sequence[str]) -> None:
        """Continue what an earlier process showed: its warnings, and that the scan is paused."""
        self._warnings = dict.fromkeys(warnings, 1) | self._warnings
        if state is RunState.PAUSED and not self.state.ended:
            self.become(state)

    def document_came(self, now: float) -> None:
        """Note the time of a document; a stale run is running again."""
        self.last_document = now
        if self.state is RunState.STALE:
            self.become(RunState.RUNNING)

    def interrupted(self, *, resumed: bool) -> None:
        """Show a pause, whether a person or a suspender made it, and its end."""
        if not self.state.ended:
            self.become(RunState.RUNNING if resumed else RunState.PAUSED)

    def check_silence(self, now: float, stale_after_s: float) -> None:
        """Make a run stale that had no document for `stale_after_s`."""
        if self.state in (RunState.RUNNING, RunState.PAUSED) and now - self.last_document > stale_after_s:
            self.become(RunState.STALE, f"no document for {int(stale_after_s)} s and no stop document")
