"""For users of a running quietbeam: maps as xarray over REST, and a plan that stops when a map is good enough."""

from .http import Client, Run
from .stop import stop_at_snr

__all__ = ["Client", "Run", "stop_at_snr"]
