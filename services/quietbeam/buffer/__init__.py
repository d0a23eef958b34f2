"""The zarr buffer: every count of a run, row by row, and the maps made of them."""

from .run_buffer import MapKind, RunBuffer, list_buffers

__all__ = ["MapKind", "RunBuffer", "list_buffers"]
