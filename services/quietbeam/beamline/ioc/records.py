"""Process variables by name, as simple as the device code of beamlines needs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import structlog
from caproto import (
    AccessRights,
    CaprotoError,
    CAStatus,
    ChannelChar,
    ChannelDouble,
    ChannelEnum,
    ChannelInteger,
    ChannelString,
)

from quietbeam.core.errors import InputError

log = structlog.get_logger()

Put = Callable[[Any], Awaitable[Any]]
"""Called with a value that a client writes, before it is kept; returns another value to keep, or None. An InputError
refuses the write, and the client is told."""

LONG_STRING = 4096


class _Record:
    """What every process variable here has: a hook for writes, and a readback that follows."""

    name = ""
    on_put: Put | None = None
    readback: Any = None
    writable = True

    def check_access(self, _hostname: str, _username: str) -> AccessRights:
        return AccessRights.READ | AccessRights.WRITE if self.writable else AccessRights.READ

    async def verify_value(self, data: Any) -> Any:
        value = await super().verify_value(data)  # type: ignore[misc]
        stored = await self.on_put(value) if self.on_put is not None else None
        return value if stored is None else stored

    async def auth_write(self, *args: Any, **kwargs: Any) -> Any:
        """Write for a client; a refusal completes its put with a status, so that it need not wait for a time-out."""
        try:
            return await super().auth_write(*args, **kwargs)  # type: ignore[misc]
        except (InputError, CaprotoError) as error:
            log.warning("write_refused", pv=self.name, reason=str(error))
        except Exception:
            log.exception("write_failed", pv=self.name)
        return CAStatus.ECA_PUTFAIL

    async def write(self, value: Any, **kwargs: Any) -> None:
        await super().write(value, **kwargs)  # type: ignore[misc]
        if self.readback is not None:
            await self.readback.write(self.value, verify_value=False)  # type: ignore[attr-defined]

    async def show(self, value: Any) -> None:
        """Set the value from inside the IOC."""
        await self.write(value, verify_value=False)


class _Integer(_Record, ChannelInteger): ...


class _Double(_Record, ChannelDouble): ...


class _Text(_Record, ChannelString): ...


class _LongText(_Record, ChannelChar):
    async def write_from_dbr(self, data: Any, *args: Any, **kwargs: Any) -> None:
        raw = b"".join(data) if isinstance(data, list | tuple) else bytes(data)
        if raw.strip(b"\0"):
            await super().write_from_dbr(data, *args, **kwargs)
        else:  # caproto cannot convert a text without characters
            await self.write("")

    async def verify_value(self, data: Any) -> Any:
        return await super().verify_value(str(data).split("\0")[0])


class _Choice(_Record, ChannelEnum): ...


class LongStr(str):
    """A text that may have more than the 39 characters of an EPICS string."""


class Records:
    """Makes process variables below a prefix and keeps them by name.

    ``add`` makes what a client may write, ``show`` what it may only read, ``pair`` both: ``Name`` and ``Name_RBV``.
    The type is that of the value; `metadata` are units, precision and limits.
    """

    def __init__(self, pvdb: dict[str, Any], prefix: str) -> None:
        self._pvdb, self.prefix = pvdb, prefix

    def below(self, suffix: str) -> Records:
        """Return records of the same IOC with a longer prefix."""
        return Records(self._pvdb, self.prefix + suffix)

    def __getitem__(self, name: str) -> Any:
        return self._pvdb[self.prefix + name]

    def add(self, name: str, value: Any, put: Put | None = None, choices: Sequence[str] = (), **metadata: Any) -> Any:
        """Make a process variable that clients may write."""
        record = _make(value, choices, metadata)
        record.name, record.on_put = self.prefix + name, put
        self._pvdb[record.name] = record
        return record

    def show(self, name: str, value: Any, choices: Sequence[str] = (), **metadata: Any) -> Any:
        """Make a process variable that clients only read."""
        record = self.add(name, value, choices=choices, **metadata)
        record.writable = False
        return record

    def pair(self, name: str, value: Any, put: Put | None = None, choices: Sequence[str] = (), **metadata: Any) -> Any:
        """Make a process variable and its readback ``Name_RBV``."""
        record = self.add(name, value, put, choices, **metadata)
        record.readback = self.show(f"{name}_RBV", value, choices, **metadata)
        return record

    def alias(self, name: str, record: Any) -> None:
        """Give a process variable another name."""
        self._pvdb[self.prefix + name] = record


def _make(value: Any, choices: Sequence[str], metadata: dict[str, Any]) -> Any:
    if choices:
        return _Choice(value=value, enum_strings=tuple(choices))
    if isinstance(value, np.ndarray):
        kind = _Double if value.dtype.kind == "f" else _Integer
        return kind(value=value, max_length=len(value), **metadata)
    if isinstance(value, LongStr):
        return _LongText(value=str(value), max_length=LONG_STRING)
    if isinstance(value, str):
        return _Text(value=value)
    return _Double(value=value, **metadata) if isinstance(value, float) else _Integer(value=int(value), **metadata)
