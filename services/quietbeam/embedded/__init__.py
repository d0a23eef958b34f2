"""Servers that quietbeam starts itself where no external one is configured. Stages never import this."""
