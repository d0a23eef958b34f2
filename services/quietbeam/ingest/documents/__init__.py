"""Bluesky documents as typed values, their delivery and their recording."""

from .model import Descriptor, Event, EventPage, Start, Stop, StreamDatum, StreamResource
from .parse import decode

__all__ = ["Descriptor", "Event", "EventPage", "Start", "Stop", "StreamDatum", "StreamResource", "decode"]
