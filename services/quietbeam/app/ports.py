"""Ports for servers of ours."""

from __future__ import annotations

import socket


def free_port(wanted: int = 0) -> int:
    """Return `wanted` when nothing listens there on loopback, else a free port that the system picks."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
