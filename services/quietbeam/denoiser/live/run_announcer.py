"""Tells Redis about the maps of one run: status, wake-ups, events and metrics."""

from __future__ import annotations

from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection, emit


class RunAnnouncer:
    """Announces what happens to one run."""

    def __init__(self, connection: Connection, uid: str) -> None:
        self._redis, self._uid = connection, uid

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
        """
        state = "final" if final else "raw_only" if raw_only else "live"
        runs.write_status(
            self._redis,
            self._uid,
            denoise_state=state,
            denoise_reason=raw_only,
            denoise_rows=rows_denoised,
            maps_version=version,
            evidence=evidence,
            **({"denoise_lag_s": round(lag_s, 4)} if lag_s is not None else {}),
        )
        first, stop = rows
        self._redis.xadd(
            keys.MAPS,
            {"run": self._uid, "first_row": first, "stop_row": stop, "version": version, "final": int(final)},
        )
        emit(self._redis, "map", self._uid, version=version, rows=rows_denoised, final=final)
        metrics.count(self._redis, "quietbeam_maps_denoised_total")
        if lag_s is not None:
            metrics.gauge(self._redis, "quietbeam_frame_latency_seconds", lag_s)

    def fine_tuned(self, steps: int) -> None:
        """Count fine-tuning steps."""
        metrics.count(self._redis, "quietbeam_fine_tune_steps_total", steps)

    def failed(self, reason: str) -> None:
        """Announce that the run cannot be denoised."""
        runs.write_status(self._redis, self._uid, denoise_state="failed", denoise_reason=reason)
        metrics.count(self._redis, "quietbeam_denoise_failures_total")
