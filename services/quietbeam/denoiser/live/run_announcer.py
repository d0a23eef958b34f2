"""Tells Redis about the maps of one run: status, wake-ups, events and metrics."""

from __future__ import annotations

import time

from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.wire import fence, keys, metrics, runs
from quietbeam.core.wire.bus import Connection, emit
from quietbeam.core.wire.fence import Lease


class RunAnnouncer:
    """Announces what happens to one run, under the lease that the worker has of it.

    All methods raise :class:`LeaseLostError`, and change nothing, when there is a later lease.
    """

    def __init__(self, connection: Connection, lease: Lease) -> None:
        self._redis, self._lease, self._uid = connection, lease, lease.uid

    def next_version(self, above: int) -> int:
        """Return the number of the next version of the maps, larger than `above` and never given before."""
        return fence.next_version(self._redis, self._lease, above)

    def maps_written(
        self,
        rows: tuple[int, int],
        version: int,
        *,
        rows_denoised: int,
        evidence: RunEvidence | None,
        raw_only: str,
        lag_s: float | None = None,
        final: bool = False,
        refine: bool = False,
    ) -> None:
        """Announce a new version of the maps: the status first, then the wake-ups.

        Parameters
        ----------
        rows
            Rows ``[a, b)`` that changed.
        rows_denoised
            Rows with a measured pixel that are in the maps.
        raw_only
            Why raw is shown instead of a denoised map; empty where it is not.
        lag_s
            Seconds since the newest row was committed, where the version is due to new rows.
        refine
            True for final maps that are to be refined when no run is live.
        """
        state = "final" if final else "raw_only" if raw_only else "live"
        first, stop = rows
        with fence.fenced(self._redis, self._lease) as pipe:
            runs.queue_status(
                pipe,
                self._uid,
                denoise_state=state,
                denoise_reason=raw_only,
                denoise_rows=rows_denoised,
                maps_version=version,
                evidence=evidence,
                **({"denoise_lag_s": round(lag_s, 4)} if lag_s is not None else {}),
            )
            pipe.xadd(
                keys.MAPS,
                {
                    "run": self._uid,
                    "first_row": first,
                    "stop_row": stop,
                    "version": version,
                    "token": self._lease.token,
                    "final": int(final),
                },
            )
            emit(pipe, "map", self._uid, version=version, rows=rows_denoised, final=final)
            metrics.count(pipe, "quietbeam_maps_denoised_total")
            if refine:
                pipe.zadd(keys.REFINE, {self._uid: time.time()})
            if lag_s is not None:
                metrics.gauge(pipe, "quietbeam_frame_latency_seconds", lag_s)

    def fine_tuned(self, steps: int) -> None:
        """Count fine-tuning steps."""
        metrics.count(self._redis, "quietbeam_fine_tune_steps_total", steps)

    def failed(self, reason: str) -> None:
        """Announce that the run cannot be denoised."""
        with fence.fenced(self._redis, self._lease) as pipe:
            runs.queue_status(pipe, self._uid, denoise_state="failed", denoise_reason=reason)
            emit(pipe, "warning", self._uid, name="denoiser", reason=reason)
            metrics.count(pipe, "quietbeam_denoise_failures_total")
