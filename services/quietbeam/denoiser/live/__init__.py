"""The stage's process: leases, one job for each run, requested actions."""
