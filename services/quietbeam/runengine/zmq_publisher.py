"""The 0MQ publisher for the RunEngine: best effort, as 0MQ itself is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from quietbeam.core.wire.wire_form import pack_or_stringify
from quietbeam.core.wire.zmq_address import keep_alive, parse_zmq

if TYPE_CHECKING:
    from bluesky.callbacks.zmq import Publisher

log = structlog.get_logger()


def zmq_publisher(address: str, *, wait_s: float = 2.0) -> Publisher:
    """Return a bluesky 0MQ publisher that speaks msgpack (never pickle) and never raises over a value.

    Parameters
    ----------
    address
        ``HOST:PORT`` of the in side of a bluesky 0MQ proxy; ``[::1]:PORT`` for IPv6.
    wait_s
        How long to wait for the connection, so that the first documents are not lost.

    Raises
    ------
    InputError
        `address` is none.
    """
    import zmq
    from bluesky.callbacks.zmq import Publisher

    where = parse_zmq(address)
    publisher = Publisher("tcp://127.0.0.1:9", serializer=lambda doc: pack_or_stringify(doc)[0])  # connects at once
    socket = publisher._socket
    socket.disconnect(publisher.address)
    publisher.address = where.url
    socket.setsockopt(zmq.IPV6, where.ipv6)
    keep_alive(socket)
    socket.setsockopt(zmq.SNDHWM, 100_000)
    socket.setsockopt(zmq.LINGER, 2000)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    socket.connect(publisher.address)
    if monitor.poll(int(wait_s * 1000)):
        time.sleep(0.1)  # the proxy's subscription follows the handshake
    else:
        log.warning("zmq_not_connected", address=publisher.address)
    socket.disable_monitor()
    monitor.close()
    return publisher
