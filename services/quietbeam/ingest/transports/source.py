"""What every transport of documents promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedDocument:
    """One document as it came: undecoded. `run` is '' when the transport does not say."""

    token: bytes
    name: str
    run: str
    payload: bytes


class DocumentSource(Protocol):
    """A transport of documents.

    Documents keep the order of one RunEngine. A durable source delivers again what was not acknowledged: after
    `reset`, and to the next process.
    """

    name: str

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return what is there; wait at most `timeout_s` for the first document."""
        ...

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """The effect of these documents is on disk."""
        ...

    def reset(self) -> None:
        """Deliver unacknowledged documents again."""
        ...

    def close(self) -> None:
        """Release the transport."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How a transport looks from here, for `quietbeam doctor`; `remedy` is empty when there is nothing to do."""

    verdict: Literal["ok", "warning", "failure"]
    found: str
    remedy: str = ""
