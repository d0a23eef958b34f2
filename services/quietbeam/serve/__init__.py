"""The control room: REST API, event stream and dashboard; what people want changed it asks of the stages."""

from .app import create_app
from .server import serve

__all__ = ["create_app", "serve"]
