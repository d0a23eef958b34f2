"""For users of a running quietbeam: maps as xarray over REST."""

import importlib
import warnings
from typing import Any

from .action import ActionHandle
from .errors import ConflictError, FailedError, RefusedError
from .http import Client, Run

__all__ = ["ActionHandle", "Client", "ConflictError", "FailedError", "RefusedError", "Run"]


def __getattr__(name: str) -> Any:
    """Give what was renamed or has moved, until 0.3."""
    if name == "Asked":
        warnings.warn("Asked is now ActionHandle", DeprecationWarning, stacklevel=2)
        return ActionHandle
    if name == "stop_at_snr":
        warnings.warn("stop_at_snr has moved: import it from quietbeam.runengine", DeprecationWarning, stacklevel=2)
        return importlib.import_module("quietbeam.runengine").stop_at_snr
    raise AttributeError(f"module 'quietbeam.client' has no attribute {name!r}")
