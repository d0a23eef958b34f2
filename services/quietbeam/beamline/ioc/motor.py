"""A stage as a motor record shows it, moving at constant velocity in small steps of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from quietbeam.core.errors import InputError

from .records import Records

TICK_S = 0.01
MAX_VELOCITY = 1e5
Travel = Callable[[float, float], Awaitable[None]]
"""``travel(before, now)``: the stage has gone from one position to another."""


class Motor:
    """Fields of a motor record below ``name``, as ophyd's EpicsMotor and ophyd-async's Motor use them.

    Parameters
    ----------
    start, low, high
        Position at first and soft limits, in um.
    travelled
        Told of every stretch of the way, in order.
    """

    def __init__(self, records: Records, name: str, start: float, low: float, high: float, travelled: Travel) -> None:
        self._travelled = travelled
        self._task: asyncio.Task[None] | None = None
        self._low, self._high = low, high
        fields = records.below(f"{name}.")
        facts: dict[str, Any] = {"units": "um", "precision": 4, "lower_ctrl_limit": low, "upper_ctrl_limit": high}
        self._target = fields.add("VAL", start, self._move, **facts)
        records.alias(name, self._target)
        self._position = fields.show("RBV", start, **facts)
        self._dial = fields.show("DRBV", start)
        self._done = fields.show("DMOV", 1)
        self._moving = fields.show("MOVN", 0)
        self._velocity = fields.add("VELO", MAX_VELOCITY, self._check_velocity)
        fields.show("VMAX", MAX_VELOCITY)
        fields.add("ACCL", 0.0)
        fields.show("EGU", "um")
        fields.show("PREC", 4)
        fields.add("STOP", 0, self._stop)
        for field, limit in (("LLM", low), ("HLM", high), ("DLLM", low), ("DHLM", high)):
            fields.show(field, limit)
        for field, text in (("DESC", name), ("RTYP", "motor"), ("OUT", "simulated")):
            fields.show(field, text)
        for field, number in (("OFF", 0.0), ("MRES", 0.001), ("ERES", 0.001), ("UREV", 1.0), ("RDBD", 0.001)):
            fields.show(field, number)
        for field, count in (("SREV", 1000), ("HLS", 0), ("LLS", 0), ("TDIR", 1), ("HOMF", 0), ("HOMR", 0)):
            fields.show(field, count)
        fields.show("FOFF", "Variable", choices=("Variable", "Frozen"))
        fields.show("SET", "Use", choices=("Use", "Set"))
        fields.show("DIR", "Pos", choices=("Pos", "Neg"))

    @property
    def position(self) -> float:
        """Where the stage is, in um."""
        return float(self._position.value)

    async def _check_velocity(self, value: float) -> None:
        if not 0 < value <= MAX_VELOCITY:
            raise InputError(f"velocity {value:g} um/s must be above 0 and at most {MAX_VELOCITY:g}")

    async def _move(self, target: float) -> None:
        """Go there; the put of a client completes when the stage has arrived, as with the record."""
        if not self._low <= target <= self._high:
            raise InputError(f"{target:g} um is beyond the limits {self._low:g} to {self._high:g} um")
        await self._stop(1)
        await self._target.show(target)
        self._task = asyncio.create_task(self._go(target))
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def _go(self, target: float) -> None:
        await self._done.show(0)
        await self._moving.show(1)
        try:
            began, start = time.monotonic(), self.position
            way = abs(target - start)
            while (position := self.position) != target:
                travelled_units = self._velocity.value * (time.monotonic() - began + TICK_S)
                now = target if travelled_units >= way else start + travelled_units * (target - start) / way
                await asyncio.sleep(min(TICK_S, abs(now - position) / self._velocity.value))
                await self._position.show(now)
                await self._dial.show(now)
                await self._travelled(position, now)
        finally:
            await self._moving.show(0)
            await self._done.show(1)

    async def _stop(self, _value: Any) -> int:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        return 0
