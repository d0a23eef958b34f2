"""Server-sent events as dictionaries; after a break they go on where they were."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import structlog

from quietbeam.core.errors import NotMeasuredError

from .errors import PASSING, NotFoundError, refusal
from .session import Session

log = structlog.get_logger()

SILENCE_S = 30.0
"""The service sends a heartbeat every five seconds."""
PATIENCE_S = 600.0
"""A service that is away for so long is given up."""
_WAITS_S = (0.2, 0.5, 1.0, 2.0, 5.0)


def follow_events(session: Session, path: str) -> Iterator[dict[str, Any]]:
    """Yield the events of an address until the caller stops.

    Raises
    ------
    QuietbeamError
        Refused, no such run, or away for `PATIENCE_S`.
    """
    last_id, tries, heard_at = "", 0, -PATIENCE_S
    while True:
        problem = "the stream ended"
        try:
            for event in _stream(session, path, last_id):
                last_id, tries, heard_at = event.get("id", last_id), 0, time.monotonic()
                yield event
        except (httpx.TransportError, _PassingError) as error:
            problem = str(error) or type(error).__name__
        except NotFoundError:
            if last_id:  # it was deleted; a service that has just started may not know it yet
                problem = "the run is not known"
            if not last_id or tries >= len(_WAITS_S):
                raise
        if time.monotonic() - heard_at >= PATIENCE_S:  # at once where it never answered
            raise NotMeasuredError(f"{session.http.base_url} does not answer: {problem}")
        log.debug("events_broke", path=path, error=problem)
        time.sleep(_WAITS_S[min(tries, len(_WAITS_S) - 1)])
        tries += 1


class _PassingError(Exception):
    """An answer that is another one soon."""


def _stream(session: Session, path: str, last_id: str) -> Iterator[dict[str, Any]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    timeout = httpx.Timeout(SILENCE_S, connect=5.0)
    with session.http.stream("GET", path, headers=headers, timeout=timeout) as answer:
        if answer.status_code in PASSING:
            raise _PassingError(f"{answer.status_code} {answer.reason_phrase}")
        if not answer.is_success:
            raise refusal(answer.status_code, answer.read(), answer.reason_phrase)
        yield from parse_events(answer.iter_bytes())


def parse_events(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream of bytes.

    Lines end with LF, CR or CRLF, as the standard says, and nowhere else: a text may hold U+0085 or U+2028.
    """
    event: dict[str, Any] = {"type": "message"}
    data: list[str] = []
    for line in _lines(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event["type"] = value
        elif name == "id":
            event["id"] = value
        elif name == "data":
            data.append(value)
        elif not line:
            if data:
                found = json.loads("\n".join(data))
                yield {**event, **(found if isinstance(found, dict) else {"value": found})}
            event, data = {"type": "message"}, []


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            yield from line.decode(errors="replace").split("\r")
