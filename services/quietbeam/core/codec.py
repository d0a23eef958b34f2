"""msgpack for documents on the wire: numpy arrays pass as raw bytes, nothing is ever unpickled.

Wire form of an array: ``{"__nd__": [dtype, [shape...]], "b": bytes}``; that of msgpack-numpy, which bluesky-kafka
and many 0MQ set-ups use, is read as well. Only plain numeric dtypes are allowed (text becomes lists); the byte length
must equal the shape's product, so a message cannot claim more memory than it carries.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

from .errors import DocumentError

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
_DTYPES = frozenset(
    f"{order}{kind}"
    for order in "<>|"
    for kind in ("b1", *(f"{k}{n}" for k in "iu" for n in (1, 2, 4, 8)), "f2", "f4", "f8")
)
_TEXT = re.compile(r"[<>]U[1-9][0-9]{0,4}")


def _default(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.str not in _DTYPES:
            if value.dtype.kind in "US":
                return value.tolist()
            raise DocumentError(f"arrays of dtype {value.dtype} cannot go on the wire; convert to a number type")
        return {"__nd__": [value.dtype.str, list(value.shape)], "b": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise DocumentError(f"values of type {type(value).__name__} cannot go on the wire")


def _object_hook(value: dict[Any, Any]) -> Any:
    if "__nd__" not in value and b"nd" not in value:
        return value
    try:
        if "__nd__" in value:
            dtype, shape = value["__nd__"]
            return _array(dtype, shape, value["b"])
        array = _array(value[b"type"], value.get(b"shape", ()), value[b"data"])
        return array if value[b"nd"] else array.item()
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"malformed array: {error}") from error


def _array(dtype: Any, shape: Any, payload: Any) -> Any:
    text = isinstance(dtype, str) and _TEXT.fullmatch(dtype)
    if not (text or dtype in _DTYPES) or not isinstance(payload, bytes):
        raise DocumentError(f"array of dtype {dtype!r} refused")
    shape = tuple(int(n) for n in shape)
    if any(n < 0 for n in shape) or len(shape) > 8:
        raise DocumentError(f"array of shape {shape} refused")
    if math.prod(shape) * np.dtype(dtype).itemsize != len(payload):
        raise DocumentError(f"array of shape {shape} and dtype {dtype} does not fit its {len(payload)} bytes")
    array = np.frombuffer(payload, dtype).reshape(shape)
    return array.tolist() if text else array


def pack(value: Any) -> bytes:
    """Encode a document.

    Raises
    ------
    DocumentError
        A value that has no safe wire form.
    """
    return msgpack.packb(value, default=_default, use_bin_type=True)


def unpack(payload: bytes) -> Any:
    """Decode a document; never runs code.

    Raises
    ------
    DocumentError
        Not msgpack, too large, too deep, or an array that is refused.
    """
    if len(payload) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"document of {len(payload)} bytes refused (limit {MAX_DOCUMENT_BYTES})")
    try:
        return msgpack.unpackb(
            payload,
            object_hook=_object_hook,
            raw=False,
            strict_map_key=False,
            unicode_errors="backslashreplace",  # one text that is no UTF-8 costs that text, not the document
        )
    except DocumentError:
        raise
    except RecursionError as error:
        raise DocumentError("document is nested too deeply") from error
    except Exception as error:
        raise DocumentError(f"not a msgpack document: {error or type(error).__name__}") from error
