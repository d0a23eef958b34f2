"""Faults on purpose: an installation of its own, scans, a seeded schedule of faults, and a comparison of every count.

A tool of releases and of the gate; no service needs it.
"""
