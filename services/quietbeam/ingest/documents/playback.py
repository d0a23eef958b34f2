"""Recorded documents are sent again: at the pace at which they came, as the old run or as a new one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from quietbeam.core.process.stop import StopRequest

from .relocate import Recorded

Timed = tuple[str, Any, float]
_LONGEST_PAUSE_S = 3600.0


def paced(documents: Sequence[Recorded], arrived: Sequence[float | None]) -> Iterator[Timed]:
    """Yield (name, document, seconds since the one before).

    The times are those of arrival, else those in the documents; a time that goes back, or on by hours, is no pause.
    """
    before: float | None = None
    for (name, doc), came in zip(documents, arrived, strict=True):
        times = doc.get("time")
        at = came if came is not None else times[-1] if isinstance(times, list) and times else times
        pause = 0.0
        if isinstance(at, int | float):
            pause = float(at) - before if before is not None else 0.0
            before = float(at)
        yield name, doc, pause if 0 < pause <= _LONGEST_PAUSE_S else 0.0


def renewed(documents: Sequence[Recorded]) -> list[Recorded]:
    """Return the documents as those of new runs that begin now: other uids, other times, all else as it was."""
    new: dict[str, str] = {}
    for name, doc in documents:
        uids = doc.get("uid", ()) if name != "stream_datum" else ()
        new |= {str(uid): str(uuid.uuid4()) for uid in (uids if isinstance(uids, list | tuple) else (uids,))}
    first = next((doc["time"] for name, doc in documents if name == "start" and "time" in doc), None)
    shift = time.time() - first if isinstance(first, int | float) else 0.0

    def change(value: Any) -> Any:
        if isinstance(value, str):
            # a datum is called after its resource: UID/NUMBER
            head, slash, tail = value.partition("/")
            return new[value] if value in new else f"{new[head]}{slash}{tail}" if head in new else value
        if isinstance(value, Mapping):
            return {change(key): change(item) for key, item in value.items()}
        return [change(item) for item in value] if isinstance(value, list | tuple) else value

    def later(doc: dict[str, Any]) -> dict[str, Any]:
        times = doc.get("time")
        if isinstance(times, int | float):
            return doc | {"time": times + shift}
        return doc | {"time": [item + shift for item in times]} if isinstance(times, list) else doc

    return [(name, later(change(doc))) for name, doc in documents]


def play(
    documents: Iterable[Timed], publish: Callable[[str, Any], Any], *, speed: float, stop: StopRequest
) -> dict[str, int]:
    """Send documents at the pace of the measurement; return how many of each name were sent.

    Parameters
    ----------
    speed
        1 is the measurement's own pace, 0 as fast as possible.
    stop
        Ends the replay early; the stop document then says that the run was aborted.
    """
    sent: dict[str, int] = {}
    due = time.monotonic()
    for name, doc, seconds in documents:
        if speed:
            due += seconds / speed
            stop.wait(max(0.0, due - time.monotonic()))
        if stop.is_set() and name == "start":
            break
        if stop.is_set() and name not in ("descriptor", "stop"):
            continue
        if name == "stop" and stop.is_set():
            events = sent.get("event", 0)
            doc = doc | {
                "exit_status": "abort",
                "reason": "replay was interrupted",
                "num_events": {"primary": events},
            }
        publish(name, doc)
        sent[name] = sent.get(name, 0) + 1
    return sent
