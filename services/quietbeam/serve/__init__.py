"""The control room: REST API, event stream and dashboard. Reads Redis and zarr, changes nothing."""

from .app import create_app
from .server import serve

__all__ = ["create_app", "serve"]
