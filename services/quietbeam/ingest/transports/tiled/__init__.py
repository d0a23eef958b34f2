"""Runs in Tiled, as bluesky's TiledWriter writes them."""

from .reader import TiledAddress
from .source import TiledSource, probe, read_run, state_file

__all__ = ["TiledAddress", "TiledSource", "probe", "read_run", "state_file"]
