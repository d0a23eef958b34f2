"""Scores every estimator on held-out counts and chooses one for each line."""
