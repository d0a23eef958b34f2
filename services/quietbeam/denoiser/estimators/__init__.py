"""Estimators: ways to make a map from counts."""
