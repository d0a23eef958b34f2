"""Every metric, declared once: name, unit, meaning, and what to do when it looks wrong. `run_uid` is never a label.

Stages other than serve are separate processes without a port; they add to counters in a Redis hash
(:func:`count`) that `/metrics` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .bus import Connection

KEY = "qb:metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric; `help` says what it means and what to do."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(
            name="quietbeam_documents_received_total",
            kind="counter",
            help="Documents that ingest read. Flat during a scan: check ingest.sources.",
        ),
        Metric(
            name="quietbeam_documents_quarantined_total",
            kind="counter",
            help="Documents set aside as unusable. Growing: read qb:quarantine, mend the profile.",
        ),
        Metric(name="quietbeam_rows_committed_total", kind="counter", help="Rows of counts written to zarr."),
        Metric(
            name="quietbeam_row_commit_seconds",
            kind="gauge",
            help="Time the last row took from its last document to disk. Above 1 s: slow disk.",
        ),
        Metric(
            name="quietbeam_maps_denoised_total",
            kind="counter",
            help="Map updates written by the denoise worker.",
        ),
        Metric(
            name="quietbeam_frame_latency_seconds",
            kind="gauge",
            help="Commit of the newest row to its denoised map. Above 1 s: machine too busy or map too large for it.",
        ),
        Metric(
            name="quietbeam_fine_tune_steps_total",
            kind="counter",
            help="Optimizer steps spent on live scans.",
        ),
        Metric(
            name="quietbeam_denoise_failures_total",
            kind="counter",
            help="Failed tries to denoise or refine a run; each is repeated. Growing: read the warnings of the run.",
        ),
        Metric(
            name="quietbeam_runs_failed",
            kind="gauge",
            help="Runs whose last try failed in the worker: shown raw, or not refined. Above 0: read their warnings.",
        ),
        Metric(
            name="quietbeam_denoise_backlog_seconds",
            kind="gauge",
            help="Time that the final maps take that are due. Above the time between scans: add a worker or a GPU.",
        ),
        Metric(
            name="quietbeam_runs_to_refine",
            kind="gauge",
            help="Finished runs that wait until the worker is idle. Growing for days: add a worker or a GPU.",
        ),
        Metric(name="quietbeam_tiled_updates_total", kind="counter", help="Map updates sent to Tiled."),
        Metric(
            name="quietbeam_tiled_publish_failures_total",
            kind="counter",
            help="Failed calls to Tiled; they are retried. Growing: Tiled is down or the key is wrong.",
        ),
    )
}


def count(connection: Connection, name: str, amount: float = 1) -> None:
    """Add to a counter."""
    assert METRICS[name].kind == "counter"
    connection.hincrbyfloat(KEY, name, amount)


def gauge(connection: Connection, name: str, value: float) -> None:
    """Set a gauge."""
    assert METRICS[name].kind == "gauge"
    connection.hset(KEY, name, repr(float(value)))


def read(connection: Connection) -> dict[str, float]:
    """Return every metric's value; 0 for those not yet touched."""
    values: Any = connection.hgetall(KEY)
    found = {k.decode(): float(v) for k, v in values.items()}
    return {name: found.get(name, 0.0) for name in METRICS}
