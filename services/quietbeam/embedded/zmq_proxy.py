"""The embedded 0MQ proxy: RunEngines publish to its in side, ingest subscribes to its out side."""

from __future__ import annotations

import os
import signal
from types import FrameType

from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings
from quietbeam.core.wire.zmq_address import keep_alive, parse_zmq


def addresses(settings: Settings) -> tuple[str, str] | None:
    """Return the in and out address (``host:port``), or None when no proxy is configured.

    Raises
    ------
    InputError
        Only one side is given, or it is no ``host:port``.
    """
    sides = settings.embedded.zmq_in, settings.embedded.zmq_out
    if sides == (None, None):
        return None
    for name, side in zip(("zmq_in", "zmq_out"), sides, strict=True):
        if side is None:
            raise InputError(f"embedded.{name} is not set, the other side is", remedy="set both, or neither")
        try:
            parse_zmq(side)
        except InputError as error:
            raise InputError(f"embedded.{name}: {error.message}", remedy=error.remedy) from error
    assert sides[0] and sides[1]
    return sides[0], sides[1]


def serve(settings: Settings) -> None:
    """Forward documents until SIGTERM or SIGINT."""
    import zmq

    sides = addresses(settings)
    if sides is None:
        raise InputError("no 0MQ proxy is configured", remedy="set embedded.zmq_in and embedded.zmq_out")

    def stop(_number: int, _frame: FrameType | None) -> None:
        os._exit(0)  # the loop runs in C and holds no state

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    inside, outside = map(parse_zmq, sides)
    context = zmq.Context()
    front, back = context.socket(zmq.SUB), context.socket(zmq.PUB)
    front.subscribe(b"")
    for one, address in ((front, inside), (back, outside)):
        one.setsockopt(zmq.IPV6, address.ipv6)
        keep_alive(one)
        one.bind(address.url)
    zmq.proxy(front, back)
