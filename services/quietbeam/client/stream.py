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

from .errors import refusal
from .session import Session

log = structlog.get_logger()

_OPEN_TIMEOUT_S = 20.0
_ATTEMPTS = 20
_WAIT_S = 1.0
_NOT_POSSIBLE = range(4000, 5000)


def stream_maps(session: Session, uid: str, kind: str, start: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Yield (version, values) of a run's maps until the run has its final ones.

    Raises
    ------
    NotMeasuredError
        No such run or kind, or the server stays away.
    """
    failures = 0
    while failures < _ATTEMPTS:
        try:
            for version, values in _connection(session, uid, kind, start):
                failures, start = 0, version + 1
                yield version, values
            return
        except QuietbeamError:  # some are OSErrors as well
            raise
        except (ConnectionClosed, OSError, TimeoutError) as error:
            if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code in _NOT_POSSIBLE:
                raise InputError(error.rcvd.reason) from error
            failures += 1
            log.debug("stream_broke", run=uid, error=str(error))
            time.sleep(_WAIT_S)
    raise NotMeasuredError(f"the stream of run {uid} broke {_ATTEMPTS} times; is the service up?")


def _connection(session: Session, uid: str, kind: str, start: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    query = f"?kind={kind}&envelope_format=msgpack&start={start}"
    url, headers = session.socket_address(f"runs/{uid}/stream{query}")
    try:
        socket = connect(url, additional_headers=headers, max_size=None, open_timeout=_OPEN_TIMEOUT_S)
    except InvalidStatus as error:
        response = error.response
        raise refusal(response.status_code, bytes(response.body or b""), response.reason_phrase) from error
    with socket:
        dtype = np.dtype("<f4")
        while True:
            try:
                message = msgpack.unpackb(socket.recv())
            except ConnectionClosedOK:
                return
            if message["type"] == "array-schema":
                dtype = np.dtype("<f4" if message["data_type"]["kind"] == "f" else "bool")
            elif message["type"] == "array-data":
                yield message["sequence"], np.frombuffer(message["payload"], dtype).reshape(message["shape"])
