"""Tells Redis about the maps of one run: status, wake-ups, events and metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass

from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.wire import fence, keys, metrics, runs
from quietbeam.core.wire.bus import Connection, emit
from quietbeam.core.wire.fence import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcomings:
    """Why maps are not the best there could be, in sentences for people; empty where they are.

    Attributes
    ----------
    raw_only
        Why raw is shown instead of a denoised map.
    failure
        Why the denoiser failed.
    unrefined
        Why final maps are not refined, and do not wait for it.
    """

    raw_only: str = ""
    failure: str = ""
    unrefined: str = ""


NO_SHORTCOMINGS = Shortcomings()


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
        shortcomings: Shortcomings = NO_SHORTCOMINGS,
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
        shortcomings
            Why the maps are not the best there could be.
        lag_s
            Seconds since the newest row was committed, where the version is due to new rows.
        refine
            True for final maps that are to be refined when no run is live.
        """
        shown = "final" if final else "raw_only" if shortcomings.raw_only else "live"
        state = "failed" if shortcomings.failure else shown
        first, stop = rows
        with fence.fenced(self._redis, self._lease) as pipe:
            runs.queue_status(
                pipe,
                self._uid,
                denoise_state=state,
                denoise_reason=shortcomings.raw_only,
                denoise_failure=shortcomings.failure or None,
                denoise_unrefined=(shortcomings.unrefined if final else "") or None,
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
        """Announce that a try to denoise the run failed."""
        self._failed(reason, denoise_state="failed", denoise_reason=reason)

    def refinement_failed(self, reason: str) -> None:
        """Announce that a try to refine the final maps failed; they stay."""
        self._failed(reason, denoise_unrefined=reason)

    def not_refined(self, reason: str) -> None:
        """Announce why the final maps are not refined."""
        with fence.fenced(self._redis, self._lease) as pipe:
            runs.queue_status(pipe, self._uid, denoise_unrefined=reason)

    def _failed(self, reason: str, **values: str) -> None:
        with fence.fenced(self._redis, self._lease) as pipe:
            runs.queue_status(pipe, self._uid, denoise_failure=reason, **values)
            emit(pipe, "warning", self._uid, name="denoiser", reason=reason)
            metrics.count(pipe, "quietbeam_denoise_failures_total")
