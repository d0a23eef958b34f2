"""The process: a socket of our own, uvicorn around the application, an end that does not wait for viewers."""

from __future__ import annotations

import resource
import socket
from types import FrameType
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from quietbeam.core.errors import ServiceError
from quietbeam.core.process.outage import build_when_possible
from quietbeam.core.process.stop import on_first_signal, stop_on_signals
from quietbeam.core.settings import ServeSettings, Settings

from .access import check_bind
from .app import create_app
from .connections import limited

log = structlog.get_logger()

_GRACE_S = 5
_FILES = 8192
_SEND_BUFFER_BYTES = 512 * 2**10
"""More than this of an answer does not wait in the system for a client that does not read."""
_SHORT_KEY = 12


class Server(uvicorn.Server):
    """uvicorn's server that ends the event streams before it waits for open requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._on_signal = on_first_signal(lambda number: uvicorn.Server.handle_exit(self, number, None))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to shut down at the first signal; a second one ends the process at once."""
        self._on_signal(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then shut down."""
        app: Any = self.config.app
        app.state.services.hub.close_streams()
        await super().shutdown(sockets)


class Sockets(WebSocketsSansIOProtocol):
    """uvicorn's websockets; uvicorn 0.54 takes a refusal that was sent for one that is missing, and logs an error."""

    async def send(self, message: Any) -> None:
        """Send, and note that a refusal ends the handshake."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True


def bind(settings: ServeSettings) -> socket.socket:
    """Return a listening socket.

    Raises
    ------
    ServiceError
        The address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); "
            "set serve.host and serve.port, or stop what uses the port"
        ) from error
    listener.set_inheritable(True)
    return listener


def make_server(settings: Settings) -> Server:
    """Return a server for the settings; `run(sockets=[bind(settings.serve)])` serves."""
    check_bind(settings.serve)
    given = settings.serve.api_key
    if given is not None and len(given.get_secret_value()) < _SHORT_KEY:
        remedy = f"give serve.api_key {_SHORT_KEY} characters or more, or leave it empty: one is made then"
        log.warning("key_is_short", reason="it can be guessed", remedy=remedy)
    return Server(
        uvicorn.Config(
            create_app(settings),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            ws=Sockets,
            ws_per_message_deflate=False,  # packing a map costs ten times what sending it does
            http=limited(),
            ws_max_size=16 * 2**10,  # what clients send: who they are
            timeout_keep_alive=15,
            timeout_graceful_shutdown=_GRACE_S,
            proxy_headers=bool(settings.serve.trusted_proxies),
            forwarded_allow_ips=list(settings.serve.trusted_proxies),
        )
    )


def allow_many_files() -> None:
    """Let this process have as many sockets as the system allows it: the usual 1024 are fewer than we serve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    allow_many_files()
    stop = stop_on_signals()
    stop.at_once = True  # until the server has its own handlers
    server = build_when_possible(lambda: make_server(settings), "serve", stop, settings.data_dir)
    if server is None:
        return
    listener = bind(settings.serve)
    host, port = listener.getsockname()[:2]
    log.info("serving", url=f"http://{host}:{port}{settings.serve.root_path}/")
    server.run(sockets=[listener])
    log.info("stage_stopped")
