"""Many viewers of one service: those that read as the page does, and those that open a stream and never read it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np

KINDS = ("raw", "denoised", "uncertainty")


class Viewers:
    """Viewers in a thread of their own, from `start` to `stop`.

    Parameters
    ----------
    url, key
        The service, ``http://127.0.0.1:8480``, and its key.
    reading
        Viewers that read every event and, at most every `every_s`, fetch the maps that changed.
    silent
        Viewers that send the request and never read; the smallest receive buffer that the system gives.

    Attributes
    ----------
    rows
        Per reading viewer: run and row of each ``row`` event, in the order they came.
    waits_s
        How long each fetch of the maps took.
    failures
        What went wrong, in words.
    """

    def __init__(self, url: str, key: str, *, reading: int, silent: int, every_s: float = 1.0) -> None:
        self._url, self._headers = url, {"Authorization": f"Apikey {key}"}
        self._silent, self._every_s = silent, every_s
        self.rows: list[list[tuple[str, int]]] = [[] for _ in range(reading)]
        self.waits_s: list[float] = []
        self.failures: list[str] = []
        self._last = [""] * reading
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="viewers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self.rows:
            self._ready.set()
        if not self._ready.wait(120):
            raise TimeoutError(f"{sum(map(bool, self._last))} of {len(self.rows)} viewers follow; {self.failures[:3]}")
        return self

    def __exit__(self, _type: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(20)

    async def _run(self) -> None:
        host, _, port = self._url.removeprefix("http://").partition(":")
        lazy = [self._open_silent(host, int(port)) for _ in range(self._silent)]
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=30, limits=limits) as http:
            tasks = [asyncio.create_task(self._count_failures(self._read(http, n))) for n in range(len(self.rows))]
            while not self._stop.is_set():
                await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for connection in lazy:
            connection.close()

    def _open_silent(self, host: str, port: int) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, port))
        lines = [f"GET /api/v1/events HTTP/1.1\r\nHost: {host}", *(f"{k}: {v}" for k, v in self._headers.items())]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection

    async def _count_failures(self, viewer: Coroutine[Any, Any, None]) -> None:
        try:
            await viewer
        except (httpx.HTTPError, ValueError, KeyError) as error:
            if not self._stop.is_set():
                self.failures.append(f"{type(error).__name__}: {error}")

    async def _read(self, http: httpx.AsyncClient, number: int) -> None:
        """Follow the events as a browser does: one whose stream ends comes back and asks for what it missed."""
        while not self._stop.is_set():
            last = self._last[number]
            headers = {"Last-Event-ID": last} if last else {}
            try:
                async with http.stream("GET", "/api/v1/events", headers=headers) as answer:
                    answer.raise_for_status()
                    await self._read_events(http, number, answer)
            except httpx.TransportError:
                await asyncio.sleep(0.5)

    async def _read_events(self, http: httpx.AsyncClient, number: int, answer: httpx.Response) -> None:
        """Take events until the stream ends."""
        fetching: asyncio.Task[None] | None = None
        kind = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                self._last[number] = value
            elif name == "event":
                kind = value
                if all(self._last):
                    self._ready.set()
            elif name == "data" and kind == "row":
                data = json.loads(value)
                self.rows[number].append((data["run"], data["row"]))
            elif name == "data" and kind == "map" and (fetching is None or fetching.done()):
                fetching = asyncio.create_task(self._count_failures(self._fetch(http, json.loads(value)["run"])))

    async def _fetch(self, http: httpx.AsyncClient, run: str) -> None:
        began = time.monotonic()
        for kind in KINDS:
            answer = await http.get(f"/api/v1/runs/{run}/maps/{kind}?format=octet-stream")
            answer.raise_for_status()
            shape = tuple(int(n) for n in answer.headers["x-shape"].split(","))
            if np.frombuffer(answer.content, "<f4").size != np.prod(shape):
                raise ValueError(f"{kind} of {shape} came with {len(answer.content)} bytes")
        took = time.monotonic() - began
        self.waits_s.append(took)
        await asyncio.sleep(max(0.0, self._every_s - took))
