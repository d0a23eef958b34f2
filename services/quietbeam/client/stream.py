"""Maps pushed over a websocket; after a break it goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import structlog
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from quietbeam.core.errors import InputError, NotMeasuredError, QuietbeamError

from .errors import PASSING, refusal
from .session import Session

log = structlog.get_logger()

_OPEN_TIMEOUT_S = 20.0
_PATIENCE_S = 600.0
"""A service that is away for so long is given up."""
_WAIT_S = 1.0
_ENDED = 1000
_NOT_POSSIBLE = range(4000, 5000)


def stream_maps(session: Session, uid: str, kind: str, start: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Yield (version, values) of a run's maps until the run has its final ones.

    Raises
    ------
    NotMeasuredError
        No such run or kind, or the server stays away.
    """
    heard_at = time.monotonic()
    while time.monotonic() - heard_at < _PATIENCE_S:
        try:
            for version, values in _connection(session, uid, kind, start):
                heard_at, start = time.monotonic(), version + 1
                yield version, values
            return
        except QuietbeamError:  # some are OSErrors as well
            raise
        except (ConnectionClosed, OSError, TimeoutError) as error:
            if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code in _NOT_POSSIBLE:
                raise InputError(error.rcvd.reason) from error
            log.debug("stream_broke", run=uid, error=str(error))
            time.sleep(_WAIT_S)
    raise NotMeasuredError(f"the stream of run {uid} is broken for {_PATIENCE_S:.0f} s; is the service up?")


def _connection(session: Session, uid: str, kind: str, start: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    query = f"?kind={kind}&envelope_format=msgpack&start={start}"
    url, headers = session.socket_address(f"runs/{uid}/stream{query}")
    try:
        socket = connect(url, additional_headers=headers, max_size=None, open_timeout=_OPEN_TIMEOUT_S)
    except InvalidStatus as error:
        response = error.response
        if response.status_code in PASSING:
            raise ConnectionError(f"{response.status_code} {response.reason_phrase}") from error
        raise refusal(response.status_code, bytes(response.body or b""), response.reason_phrase) from error
    with socket:
        dtype = np.dtype("<f4")
        while True:
            try:
                message = msgpack.unpackb(socket.recv())
            except ConnectionClosedOK as end:
                if end.rcvd is not None and end.rcvd.code != _ENDED:  # a proxy goes away, the run goes on
                    raise ConnectionError("the connection was closed by the way") from end
                return
            if message["type"] == "array-schema":
                dtype = np.dtype("<f4" if message["data_type"]["kind"] == "f" else "bool")
            elif message["type"] == "array-data":
                yield message["sequence"], np.frombuffer(message["payload"], dtype).reshape(message["shape"])
