"""The life of one process: loop, stop, log, fail points for tests."""
