"""One array in one format."""
