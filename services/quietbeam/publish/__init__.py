"""Maps, evidence and provenance of every run in Tiled, while the scan runs and for good."""

from .stage import PublishStage

__all__ = ["PublishStage"]
