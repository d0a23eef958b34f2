"""Names of everything quietbeam keeps in Redis (DESIGN.md, "Contracts")."""

DOCS = "qb:docs"
"""Stream: the ingest log when Redis is the transport. Fields ``name``, ``run``, ``doc`` (msgpack)."""
ROWS = "qb:rows"
"""Stream: a row was committed. Fields ``run``, ``row``, ``at`` (wall clock). A wake-up; zarr is the truth."""
MAPS = "qb:maps"
"""Stream: maps changed. Fields ``run``, ``first_row``, ``stop_row``, ``version``, ``token``, ``final``. A wake-up."""
EVENTS = "qb:events"
"""Stream: what the event stream of the API serves. Fields ``type``, ``run``, ``data`` (JSON)."""
QUARANTINE = "qb:quarantine"
"""Stream: what could not be used. Fields ``run``, ``name``, ``reason``, ``doc`` (the bytes, cut)."""
RUNS = "qb:runs"
"""Sorted set of run uids by start time."""

REFINE = "qb:refine"
"""Sorted set of runs whose final maps are to be refined, by the time of these maps."""
WEIGHTS = "qb:weights"
"""String: name of the weights that runs start from; absent: the setting `denoise.weights`."""
EPOCH = "qb:epoch"
"""String that ingest sets and nobody deletes: when it is gone, Redis lost its data."""

SERVER = "qb:server"
"""String that the first publisher sets and nobody changes: which server this is, whatever its URL."""


def run(uid: str) -> str:
    """Hash with the state of a run; field names are in :mod:`quietbeam.core.wire.runs`."""
    return f"qb:run:{uid}"


def context(uid: str) -> str:
    """Hash with the start, descriptor and stream_resource documents that ingest needs after a restart."""
    return f"qb:context:{uid}"


def lease(uid: str) -> str:
    """String: which worker denoises the run; expires."""
    return f"qb:lease:{uid}"


def fence(uid: str) -> str:
    """Hash: largest fencing token (``token``) and version of the maps (``version``) that were given out for a run."""
    return f"qb:fence:{uid}"


def worker(name: str) -> str:
    """String: which process has this name of a worker; expires."""
    return f"qb:worker:{name}"


def stage(name: str) -> str:
    """Hash: heartbeat of a stage (``pid``, ``at``, ``state``, ``detail``, ``memory`` in bytes); expires."""
    return f"qb:stage:{name}"


def control(stage: str) -> str:
    """Stream: what people ask of a stage. Field ``id``."""
    return f"qb:control:{stage}"


def action(action_id: str) -> str:
    """Hash: an action and how it goes; expires."""
    return f"qb:action:{action_id}"


def unsettled(uid: str) -> str:
    """Hash: kind to id of the actions of a run that are not settled; expires."""
    return f"qb:asked:{uid}"
