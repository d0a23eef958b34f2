"""Runs and maps as they are on disk and in Redis."""
