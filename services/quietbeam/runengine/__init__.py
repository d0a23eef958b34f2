"""Runs inside the RunEngine's process: sends documents, spools them while Redis is away, stops a scan at an SNR.

::

    from quietbeam.runengine import RedisPublisher

    RE.subscribe(RedisPublisher("redis://redis.beamline:6379", spool_dir="/var/spool/quietbeam"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .publisher import RedisPublisher, zmq_publisher

if TYPE_CHECKING:
    from .snr_watch import stop_at_snr

__all__ = ["RedisPublisher", "stop_at_snr", "zmq_publisher"]


def __getattr__(name: str) -> Any:
    """Load the plan (and with it the HTTP client) only when it is used."""
    if name == "stop_at_snr":
        from .snr_watch import stop_at_snr

        return stop_at_snr
    raise AttributeError(f"module 'quietbeam.runengine' has no attribute {name!r}")
