"""The ways to make a map."""
