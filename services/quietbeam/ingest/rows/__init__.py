"""Frames become committed rows."""
