"""The protocol of a transport of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedDocument:
    """One undecoded document. `run` is '' when the transport does not have it."""

    token: bytes
    name: str
    run: str
    payload: bytes


class DocumentSource(Protocol):
    """A transport of documents.

    Documents of one RunEngine are received in its order. A durable source delivers unacknowledged documents again:
    after `reset`, and to the next process.
    """

    name: str

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return up to a batch of documents; wait at most `timeout_s` for the first one."""
        ...

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge documents: their effect is on disk."""
        ...

    def reset(self) -> None:
        """Deliver unacknowledged documents again."""
        ...

    def close(self) -> None:
        """Release the transport."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Result of a connection test, for `quietbeam doctor`; `remedy` is empty when nothing needs to be done."""

    verdict: Literal["ok", "warning", "failure"]
    found: str
    remedy: str = ""
