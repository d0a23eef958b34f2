"""The state of a run from its buffer, where Redis is away or has forgotten it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import RunState
from quietbeam.core.wire.runs import RunStatus

_STATUS_FIELDS = frozenset(f.name for f in fields(RunStatus))


def status_from_buffer(root: Path, uid: str) -> RunStatus:
    """Return the state of a run as its files have it.

    Parameters
    ----------
    root
        Folder of the run buffers.

    Raises
    ------
    DamagedRunError
        Its files cannot be read.
    NotMeasuredError
        No such run is buffered.
    """
    buffer = RunBuffer.open(root, uid)
    rows_measured, pixels_measured = buffer.progress()
    attributes = buffer.map_attributes()
    stored = {name: value for name, value in buffer.state().items() if name in _STATUS_FIELDS}
    values: dict[str, Any] = {
        "rows_measured": rows_measured,
        "pixels_measured": pixels_measured,
        "denoise_rows": int(attributes.get("rows") or 0),
        "maps_version": int(attributes.get("version") or 0),
        "denoise_state": "final" if attributes.get("final") else "live" if attributes.get("version") else "waiting",
    }
    if failure := str(attributes.get("failure") or ""):
        values |= {"denoise_state": "failed", "denoise_reason": failure, "denoise_failure": failure}
    values["evidence"] = buffer.evidence()
    for name in ("reason", "time_stop", "last_document_at", "pinned"):
        if stored.get(name) is not None:
            values[name] = stored[name]
    if "state" in stored:
        values["state"] = RunState(stored["state"])
    if stored.get("warnings"):
        values["warnings"] = tuple(stored["warnings"])
    return RunStatus(uid=uid, info=buffer.info, **values)
