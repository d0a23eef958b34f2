"""The state hash of a run in Redis. Each field has exactly one writing stage.

======================  ========  ==================================================================
field                   writer    meaning
======================  ========  ==================================================================
info                    ingest    RunInfo as JSON
scan_id, plan,          ingest    of a run that has no info, from its start document: what is listed of a run without
time_start                        a map
state, reason           ingest    RunState and a sentence for people
time_stop               ingest    time of the stop document
last_document_at        ingest    wall clock of the last document (display only)
rows_measured           ingest    rows in which every pixel is measured
pixels_measured         ingest    pixels measured
warnings                ingest    JSON list of sentences (duplicates, gaps, refused values ...)
pinned                  ingest    1: never deleted by age
damage                  all       what of its files cannot be read; whoever meets it writes it, a repair removes it
denoise_request         denoise   id of the action that asked to denoise again, until it is done
denoise_state           denoise   waiting | live | final | raw_only | failed
denoise_reason          denoise   sentence
denoise_failure         denoise   sentence on the last try, when it failed: of the denoised or the refined maps
denoise_unrefined       denoise   sentence on final maps that do not wait to be refined, and are not
denoise_rows            denoise   rows in the maps
denoise_lag_s           denoise   seconds from the commit of the newest row to its denoised map
maps_version            denoise   grows with every change of the maps
evidence                denoise   RunEvidence as JSON
publish_state           publish   waiting | live | final | failed
publish_reason          publish   sentence
publish_version         publish   `maps_version` that Tiled has
tiled_path              publish   path in Tiled
======================  ========  ==================================================================

What Redis lost, ingest writes again from the run's buffer, the fields of others included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from ..model.evidence import RunEvidence
from ..model.types import RunInfo, RunState
from . import keys
from .bus import Connection, emit

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Snapshot of the state hash; missing fields have their neutral value."""

    uid: str
    info: RunInfo | None = None
    scan_id: int | None = None
    plan: str = ""
    time_start: float | None = None
    state: RunState = RunState.RUNNING
    reason: str = ""
    time_stop: float | None = None
    last_document_at: float | None = None
    rows_measured: int = 0
    pixels_measured: int = 0
    warnings: tuple[str, ...] = ()
    pinned: bool = False
    damage: str = ""
    denoise_state: str = "waiting"
    denoise_reason: str = ""
    denoise_failure: str = ""
    denoise_unrefined: str = ""
    denoise_rows: int = 0
    denoise_lag_s: float | None = None
    maps_version: int = 0
    evidence: RunEvidence | None = None
    publish_state: str = "waiting"
    publish_reason: str = ""
    publish_version: int = 0
    tiled_path: str = ""

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """What people should know: the warnings of ingest, and the last failure of the denoiser."""
        return (*self.warnings, *((self.denoise_failure,) if self.denoise_failure else ()))


_JSON: dict[str, Callable[[Any], Any]] = {
    "info": RunInfo.from_dict,
    "evidence": RunEvidence.from_dict,
    "warnings": tuple,
}
_NUMBERS = {
    "scan_id": int,
    "time_start": float,
    "time_stop": float,
    "last_document_at": float,
    "pinned": bool,
    "rows_measured": int,
    "pixels_measured": int,
    "denoise_rows": int,
    "denoise_lag_s": float,
    "maps_version": int,
    "publish_version": int,
}


def write_status(connection: Connection, uid: str, **values: Any) -> None:
    """Set fields of the run's hash; RunInfo, RunEvidence, lists and tuples become JSON, None removes the field."""
    with connection.pipeline() as pipe:
        queue_status(pipe, uid, **values)
        pipe.execute()


def queue_status(pipe: Connection, uid: str, **values: Any) -> None:
    """Add :func:`write_status` to a pipeline."""
    texts: dict[str, bytes | str] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name in _JSON:
            texts[name] = orjson.dumps(
                value.to_dict() if hasattr(value, "to_dict") else value, option=orjson.OPT_SERIALIZE_NUMPY
            )
        else:
            texts[name] = str(value)
    removed = [name for name, value in values.items() if value is None]
    if texts:
        pipe.hset(keys.run(uid), mapping=texts)  # type: ignore[arg-type]
    if removed:
        pipe.hdel(keys.run(uid), *removed)


def parse_status(uid: str, fields: dict[bytes, bytes]) -> RunStatus:
    """Build a snapshot from HGETALL's reply."""
    values: dict[str, Any] = {"uid": uid}
    unreadable: dict[str, str] = {}
    for raw_name, raw in fields.items():
        name = raw_name.decode(errors="replace")
        try:
            if name in _JSON:
                values[name] = _JSON[name](orjson.loads(raw))
            elif name in _NUMBERS:
                values[name] = _NUMBERS[name](raw if name == "scan_id" else float(raw))
            elif name == "state":
                values[name] = RunState(raw.decode())
            elif name in RunStatus.__slots__:
                values[name] = raw.decode()
        except Exception as error:  # whatever an entry of another type does to what reads it
            unreadable[name] = f"{type(error).__name__}: {error}"[:120]
    if unreadable:
        found = "; ".join(f"{name} ({why})" for name, why in unreadable.items())
        values["damage"] = f"run {uid}: its state in Redis has entries that cannot be read: {found}"
        if "state" in unreadable:
            values["state"] = RunState.UNUSABLE
    return RunStatus(**values)


def read_status(connection: Connection, uid: str) -> RunStatus | None:
    """Return the snapshot of a run, or None when Redis does not know it."""
    fields: Any = connection.hgetall(keys.run(uid))
    return parse_status(uid, fields) if fields else None


def note_damage(connection: Connection, uid: str, error: Exception, **values: Any) -> None:
    """Say in list, events and log that files of a run cannot be read, and set more fields of its hash."""
    sentence = str(error)
    known: Any = connection.hget(keys.run(uid), "damage")
    write_status(connection, uid, damage=sentence, **values)
    if known is None or known.decode(errors="replace") != sentence:
        log.error("run_damaged", run=uid, error=sentence)
        emit(connection, "run", uid, damage=sentence)


def clear_damage(connection: Connection, uid: str, *, maps: bool = False) -> None:
    """Say that a run can be read again: what had failed is done again; with `maps`, maps and publishing in any case."""
    states: Any = connection.hmget(keys.run(uid), "denoise_state", "publish_state")
    again = {
        name: "waiting"
        for name, state in zip(("denoise_state", "publish_state"), states, strict=True)
        if maps or state == b"failed"
    }
    with connection.pipeline() as pipe:
        pipe.hdel(keys.run(uid), "damage")
        if again:
            pipe.hset(keys.run(uid), mapping=again)  # type: ignore[arg-type]
        pipe.execute()
    log.info("run_no_longer_damaged", run=uid)
    emit(connection, "run", uid, damage="")


def register_run(connection: Connection, uid: str, time_start: float) -> None:
    """Add a run to the index."""
    connection.zadd(keys.RUNS, {uid: time_start})


def list_runs(connection: Connection, *, newest_first: bool = True, limit: int | None = None) -> list[str]:
    """Return run uids by start time."""
    stop = -1 if limit is None else limit - 1
    replies: Iterable[bytes] = connection.zrange(keys.RUNS, 0, stop, desc=newest_first)  # type: ignore[assignment]
    return [uid.decode() for uid in replies]
