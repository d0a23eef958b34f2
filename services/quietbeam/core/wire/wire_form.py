"""Documents as bytes, whatever a device or a plan put into them: one odd value never costs the document."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import codec


def pack_or_stringify(doc: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Return the wire form, and whether every value had one; the others are sent as text."""
    try:
        return codec.pack(doc), True
    except Exception:
        return codec.pack(_plain(doc)), False


def pack_what_can_be(doc: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Old name of :func:`pack_or_stringify`."""
    warnings.warn("pack_what_can_be is called pack_or_stringify now", DeprecationWarning, stacklevel=2)
    return pack_or_stringify(doc)


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > 32:
        return "..."
    if isinstance(value, Mapping):
        return {readable(k if isinstance(k, str) else str(k)): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, list | tuple):
        return [_plain(v, depth + 1) for v in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(v, depth + 1) for v in value.tolist()] if value.ndim else _plain(value.item(), depth + 1)
    try:
        codec.pack(value)
    except Exception:
        return readable(str(value)[:1000])
    return value


def readable(text: str) -> str:
    """Return a text that has a form in UTF-8: bytes of no character, as in file names, become \\xNN."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair of UTF-16
        return text.encode("utf-8", "backslashreplace").decode()
