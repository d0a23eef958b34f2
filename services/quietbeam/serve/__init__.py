"""The control room: REST API, event stream and dashboard; what people want changed it asks of the stages."""

from .encoding import write_utf8

write_utf8()  # before anything opens a file

from .app import create_app  # noqa: E402
from .server import serve  # noqa: E402

__all__ = ["create_app", "serve"]
