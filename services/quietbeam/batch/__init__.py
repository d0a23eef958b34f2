"""Many maps at once, on the workers of Dask; and how one source is read, which `denoise` and `replay` share."""
