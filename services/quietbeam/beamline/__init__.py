"""The simulated beamline and the replay of measured files: where documents come from when no beamline is at hand."""
