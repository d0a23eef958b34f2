"""How a beamline's keys are read: schema, geometry, layout."""

from .schema import Dataset, Profile, load_profile, shipped_profiles

__all__ = ["Dataset", "Profile", "load_profile", "shipped_profiles"]
