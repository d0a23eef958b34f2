"""Procedural specimens: clean rate maps with many lines, for pretraining."""

from quietbeam_models.specimens.exposure import draw_exposure
from quietbeam_models.specimens.scene import Scene, make_scene

__all__ = ["Scene", "draw_exposure", "make_scene"]
