"""Prometheus and the log of requests."""
