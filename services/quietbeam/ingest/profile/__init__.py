"""Beamline profiles (YAML) and their resolution, at a run's start document and at its descriptor."""

import warnings

from .schema import BeamlineProfile, load_profile, shipped_profiles
from .sections import Dataset

__all__ = ["BeamlineProfile", "Dataset", "load_profile", "shipped_profiles"]


def __getattr__(name: str) -> type[BeamlineProfile]:
    """Give ``Profile``, the name of ``BeamlineProfile`` until 0.1."""
    if name == "Profile":
        warnings.warn("Profile is now BeamlineProfile", DeprecationWarning, stacklevel=2)
        return BeamlineProfile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
