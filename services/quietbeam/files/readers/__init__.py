"""One reader for each layout of measured data."""
