"""For users of a running quietbeam: maps as xarray over REST, and a plan that stops when a map is good enough."""

from .asked import Asked
from .errors import ConflictError, FailedError, RefusedError
from .http import Client, Run
from .stop import stop_at_snr

__all__ = ["Asked", "Client", "ConflictError", "FailedError", "RefusedError", "Run", "stop_at_snr"]
