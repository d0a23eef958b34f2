"""The composition root of one machine: servers and stages as supervised processes."""

from .supervisor import Supervisor

__all__ = ["Supervisor"]
