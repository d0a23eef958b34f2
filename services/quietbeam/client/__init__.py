"""For users of a running quietbeam: maps as xarray over REST."""

from typing import Any

from .asked import Asked
from .errors import ConflictError, FailedError, RefusedError
from .http import Client, Run

__all__ = ["Asked", "Client", "ConflictError", "FailedError", "RefusedError", "Run"]


def __getattr__(name: str) -> Any:
    """Give `stop_at_snr`, which has moved, until 0.3."""
    if name == "stop_at_snr":
        import importlib
        import warnings

        warnings.warn("stop_at_snr has moved: import it from quietbeam.runengine", DeprecationWarning, stacklevel=2)
        return importlib.import_module("quietbeam.runengine").stop_at_snr
    raise AttributeError(f"module 'quietbeam.client' has no attribute {name!r}")
