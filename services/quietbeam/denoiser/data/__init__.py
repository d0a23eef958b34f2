"""Counts, detectors, exposure and noise of one map."""
