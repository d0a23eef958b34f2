"""Addresses of 0MQ as people write them, in the form that libzmq takes; connections that notice when they are dead."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import zmq

HEARTBEAT_MS = 5000
SILENCE_MS = 15000
"""A peer that has not answered for so long is gone; 0MQ connects again."""
_FORM = re.compile(
    r"(?:(?:zmq(?:\+curve)?|tcp)://)*(?P<host>\[[0-9a-f:.]+(?:%[\w.-]+)?\]|[^\s\[\]:/?#@]+):(?P<port>\d{1,5})/?", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZmqAddress:
    """Where a 0MQ socket connects or binds.

    Attributes
    ----------
    url
        ``tcp://HOST:PORT``.
    ipv6
        The socket needs its option IPV6: libzmq then tries no address of IPv4, so it is set for others only.
    """

    url: str
    ipv6: bool


def parse_zmq(text: str) -> ZmqAddress:
    """Read ``HOST:PORT``, ``[::1]:PORT`` or the same with ``zmq://``, ``zmq+curve://`` or ``tcp://`` in front.

    Raises
    ------
    InputError
        No such address.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or not 0 < int(found["port"]) <= 65535:
        raise InputError(
            f"{text!r} is no address of 0MQ", remedy="write HOST:PORT, and an address of IPv6 as [::1]:PORT"
        )
    host = found["host"]
    return ZmqAddress(url=f"tcp://{host}:{int(found['port'])}", ipv6=host.startswith("[") or _has_only_ipv6(host))


def _has_only_ipv6(host: str) -> bool:
    if host == "*":
        return False
    try:
        families = {entry[0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):  # not known yet; 0MQ asks again at every try
        return False
    return socket.AF_INET6 in families and socket.AF_INET not in families


def keep_alive(connection: zmq.Socket[Any]) -> None:
    """Let a socket notice a peer that is gone without a word, as after a firewall has forgotten the connection."""
    import zmq

    connection.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    connection.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
    connection.setsockopt(zmq.HEARTBEAT_TTL, 2 * SILENCE_MS)
    connection.setsockopt(zmq.TCP_KEEPALIVE, 1)
    connection.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
    connection.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
    connection.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
