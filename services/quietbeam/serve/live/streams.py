"""Maps over a websocket, in the messages of Tiled's streams: one ``array-schema``, then ``array-data`` as maps change.

A message holds a whole map and is numbered by the maps' version. A viewer that is slow gets the newest map next, not
the ones between; one that reads nothing for `SEND_TIMEOUT_S` is dropped, so it costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgpack
import numpy as np
import numpy.typing as npt
import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.wire.runs import RunStatus

from ..render.formats import MIME, guard_size, json_values
from ..state.catalog import RunCatalog
from ..state.maps import MapKind, MapReader
from .hub import SEND_TIMEOUT_S, EventHub

Envelope = Literal["json", "msgpack"]
ENDED, RESTARTS, TOO_SLOW = 1000, 1012, 1013


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStream:
    """The maps of one kind of one run, for one websocket.

    Attributes
    ----------
    start
        First version that is wanted, of those that are kept; None: what comes from now on.
    """

    catalog: RunCatalog
    maps: MapReader
    hub: EventHub
    uid: str
    kind: MapKind
    envelope: Envelope
    start: int | None

    def check(self, info: RunInfo) -> None:
        """Refuse what could not be sent.

        Raises
        ------
        InputError
            The map is too large for one message.
        ServiceError
            Too many viewers.
        """
        shape = info.shape if self.kind == "measured" else (len(info.lines), *info.shape)
        form = "json" if self.envelope == "json" else "octet-stream"
        guard_size(shape, 1 if self.kind == "measured" else 4, form)
        self.hub.check_capacity()

    async def serve(self, websocket: WebSocket) -> None:
        """Send until the run has its final maps, the viewer leaves or stops reading, or the service stops."""
        with self.hub.viewer():
            left = asyncio.create_task(_left(websocket), name="viewer-left")
            sending = asyncio.create_task(self._send_all(websocket), name="viewer-sending")
            try:
                await asyncio.wait({left, sending}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done() and not left.done():
                    code, reason = sending.result()
                    await websocket.close(code, reason)
            except TimeoutError:
                with suppress(RuntimeError, TimeoutError):
                    async with asyncio.timeout(1):
                        await websocket.close(TOO_SLOW, "too slow: nothing was read for a while")
                raise
            except (WebSocketDisconnect, RuntimeError):  # it left while a message was under way
                pass
            finally:
                for task in (left, sending):
                    task.cancel()
                await asyncio.gather(left, sending, return_exceptions=True)

    async def _send_all(self, websocket: WebSocket) -> tuple[int, str]:
        """Send what there is and what comes; return why it ended."""
        changes = self.hub.changes(self.uid, self.hub.newest)  # what happens from here on is not missed
        status = await self._status()
        await self._send(websocket, {"type": "array-schema", "version": 1, "data_type": _data_type(self.kind)})
        sent = status.maps_version if self.start is None else self.start - 1
        if self.start is not None:
            async for version in self._kept(status):
                await self._send_map(websocket, status, version)
                sent = version
        try:
            while True:
                if status.maps_version > sent and status.maps_version > 0:
                    await self._send_map(websocket, status, None)
                    sent = status.maps_version
                elif status.state.ended and status.denoise_state in ("final", "failed"):
                    return ENDED, "the run has its final maps"
                elif not await anext(changes, False):
                    return RESTARTS, "the service restarts"
                status = await self._status()
        except NotMeasuredError:
            return ENDED, "the run was deleted"
        finally:
            await changes.aclose()

    async def _kept(self, status: RunStatus) -> AsyncIterator[int]:
        """Yield the earlier versions that are wanted and can still be read."""
        if self.kind not in ("denoised", "uncertainty"):
            return
        for state in await asyncio.to_thread(self.catalog.history, self.uid):
            if state.maps and (self.start or 0) <= state.version < status.maps_version:
                yield state.version

    async def _status(self) -> RunStatus:
        return await asyncio.to_thread(self.catalog.status, self.uid)

    async def _send_map(self, websocket: WebSocket, status: RunStatus, version: int | None) -> None:
        stack = await asyncio.to_thread(self.maps.read, status, self.kind, version)
        message = {
            "type": "array-data",
            "sequence": status.maps_version if version is None else version,
            "timestamp": datetime.now(UTC).isoformat(),
            "mimetype": MIME["octet-stream"],
            "shape": list(stack.values.shape),
            "offset": None,
            "block": None,
        }
        await self._send(websocket, message, stack.values)

    async def _send(
        self, websocket: WebSocket, message: dict[str, Any], values: npt.NDArray[Any] | None = None
    ) -> None:
        packed = await asyncio.to_thread(_pack, self.envelope, message, values)
        async with asyncio.timeout(SEND_TIMEOUT_S):
            if isinstance(packed, bytes):
                await websocket.send_bytes(packed)
            else:
                await websocket.send_text(packed)


def _pack(envelope: Envelope, message: dict[str, Any], values: npt.NDArray[Any] | None) -> bytes | str:
    if envelope == "msgpack":
        payload = {} if values is None else {"payload": np.ascontiguousarray(values).tobytes()}
        packed: bytes = msgpack.packb({**message, **payload})
        return packed
    decoded: dict[str, Any] = (
        {} if values is None else {"content-type": "application/json", "payload": json_values(values)}
    )
    return orjson.dumps({**message, **decoded}).decode()


def _data_type(kind: MapKind) -> dict[str, Any]:
    if kind == "measured":
        return {"endianness": "not_applicable", "kind": "b", "itemsize": 1, "dt_units": None}
    return {"endianness": "little", "kind": "f", "itemsize": 4, "dt_units": None}


async def _left(websocket: WebSocket) -> None:
    """Return when the viewer has left; whatever it says meanwhile is ignored."""
    with suppress(RuntimeError):
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
