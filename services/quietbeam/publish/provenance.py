"""What travels with the maps of a run: where they come from, how they were made, how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import RunInfo
from quietbeam.core.settings import Settings
from quietbeam.core.version import __version__
from quietbeam.core.wire.runs import RunStatus

SPEC = "XRFDenoisedRun"
SPEC_VERSION = "1.0"

ARRAYS: Mapping[str, str] = {
    "measured": "True where a pixel is measured; elsewhere the maps are 0, which is no measured value",
    "raw": "gain-weighted sum over detectors",
    "uncertainty": "one standard error of denoised",
    "denoised": "estimate of raw's expectation",
}
"""Arrays of a run, in the order in which they are written: who is told of `denoised` finds the others new as well."""


ROOT_METADATA: Mapping[str, str] = {
    "title": "Denoised X-ray fluorescence runs",
    "description": "One container a run, named by the uid of the raw run; made by quietbeam.",
}


def container_metadata(settings: Settings, info: RunInfo, status: RunStatus, attributes: Mapping[str, Any]) -> Any:
    """Return the metadata of a run's container, plain JSON types.

    Parameters
    ----------
    settings
        The part that shapes the maps is kept.
    info, status
        The run, and its state now.
    attributes
        Attributes of the maps in the buffer: ``version``, ``final``, ``evidence``.
    """
    info = status.info or info  # ingest refines step, origin and order by the motors' readings
    stored = attributes.get("evidence")
    found = RunEvidence.from_dict(stored) if stored else status.evidence
    evidence = found.to_dict() if found else None
    known = info.to_dict()
    start = known.pop("metadata")
    raw_root = settings.tiled.raw_root
    return {
        "raw_run_uid": info.uid,
        "raw_run_path": None if raw_root is None else "/".join(part for part in (raw_root, info.uid) if part),
        "quietbeam_version": __version__,
        "info": known,
        "start": start,
        "lines": list(info.lines),
        "detectors": list(info.detectors),
        "state": str(status.state),
        "reason": status.reason,
        "time_stop": status.time_stop,
        "rows_measured": status.rows_measured,
        "pixels_measured": status.pixels_measured,
        "warnings": list(status.all_warnings),
        "denoise_state": status.denoise_state,
        "denoise_reason": status.denoise_reason,
        "weights": {
            "version": (evidence or {}).get("model", ""),
            "sha256": (evidence or {}).get("model_sha256", ""),
        },
        "settings": settings.denoise.model_dump(mode="json"),
        "evidence": evidence,
        "maps": {
            "version": int(attributes.get("version", 0)),
            "final": bool(attributes.get("final", False)),
            "refined": bool((evidence or {}).get("refined", False)),
        },
    }


def metadata_digest(metadata: Mapping[str, Any]) -> bytes:
    """Return bytes that differ when the metadata differ."""
    return orjson.dumps(metadata, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS)


def array_metadata(info: RunInfo, name: str) -> dict[str, Any]:
    """Return the metadata of one array: what it is, its units, and where its pixels lie."""
    common = {"kind": name, "description": ARRAYS[name], "raw_run_uid": info.uid, "coordinates": _coordinates(info)}
    if name == "measured":
        return common
    units = "counts" if info.kind == "counts" else "fitted area"
    return {**common, "lines": list(info.lines), "units": f"{units}, summed over detectors"}


def _coordinates(info: RunInfo) -> dict[str, Any]:
    """Return, per axis, position = origin + index * step; pixels where the run does not tell its steps."""
    found = {}
    for k, axis in enumerate(("row", "col")):
        known = info.step is not None
        found[axis] = {
            "origin": info.origin[k] if known and info.origin is not None else 0.0,
            "step": info.step[k] if info.step is not None else 1.0,
            "units": info.units if known else "pixel",
        }
    return found
