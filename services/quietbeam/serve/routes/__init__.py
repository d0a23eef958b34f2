"""Addresses, grouped by what they show."""
