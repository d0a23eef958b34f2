"""Measurements of quality, speed and load; no service needs them."""
