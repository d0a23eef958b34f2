"""A recorded run through ingest, without servers."""

from .assemble import ingest_recorded, map_of_documents

__all__ = ["ingest_recorded", "map_of_documents"]
