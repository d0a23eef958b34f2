"""The zarr buffer: every count of a run, row by row, and the maps made of them."""

from .history import MapHistory, MapState
from .run_buffer import MapKind, RunBuffer, list_buffers

__all__ = ["MapHistory", "MapKind", "MapState", "RunBuffer", "list_buffers"]
