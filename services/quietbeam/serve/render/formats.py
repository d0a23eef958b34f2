"""Which form a map is sent in, and how it is written."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import HTTPException
from PIL import Image

from quietbeam.core.errors import InputError

MIME = {
    "json": "application/json",
    "npy": "application/x-npy",
    "png": "image/png",
    "octet-stream": "application/octet-stream",
    "csv": "text/csv",
    "tiff": "image/tiff",
    "hdf5": "application/x-hdf5",
}
MAX_BYTES = 300 * 2**20
MAX_TEXT_VALUES = 4 * 2**20


def choose(requested: str | None, accept: str | None, possible: tuple[str, ...]) -> str:
    """Return the format to send: `format=` (aliases or MIME types, comma separated) wins over `Accept`.

    Raises
    ------
    HTTPException
        406 with the list of possible formats.
    """
    by_mime = {MIME[name]: name for name in possible}
    if requested:
        wanted = [text.strip().lower() for text in requested.split(",")]
    elif accept:
        wanted = _by_quality(accept)
    else:
        return possible[0]
    for text in wanted:
        if text in possible:
            return text
        if text in by_mime:
            return by_mime[text]
        if text.endswith("/*") and not requested:
            match = next((name for mime, name in by_mime.items() if text == "*/*" or mime.startswith(text[:-1])), None)
            if match:
                return match
    raise HTTPException(
        406,
        f"cannot be sent as {(requested or accept or '')[:80]!r}; possible formats are "
        + ", ".join(f"{name} ({MIME[name]})" for name in possible),
    )


def _by_quality(accept: str) -> list[str]:
    weighed: list[tuple[float, str]] = []
    for item in accept.split(","):
        mime, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if mime and quality > 0:
            weighed.append((quality, mime))
    return [mime for _, mime in sorted(weighed, key=lambda pair: -pair[0])]


def guard_size(shape: tuple[int, ...], itemsize: int, form: str) -> None:
    """Refuse what would not fit a response.

    Raises
    ------
    InputError
        Too large; says how to ask for less.
    """
    values = int(np.prod(shape, dtype=np.int64))
    if form in ("json", "csv") and values > MAX_TEXT_VALUES:
        raise InputError(
            f"{values} values are too many for {form} (limit {MAX_TEXT_VALUES}); take a part with slice= "
            "(slice=::4,::4 for every 4th pixel) or format=npy"
        )
    if values * itemsize > MAX_BYTES:
        less = "ask for one line, as .../maps/denoised/LINE" if form == "hdf5" else "take a part with slice="
        raise InputError(f"{values * itemsize} bytes are too many for one answer (limit {MAX_BYTES}); {less}")


def json_values(array: npt.NDArray[Any]) -> Any:
    """Return nested lists in which NaN and infinities are None."""
    return orjson.loads(orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY))


def _npy(array: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _octets(array: npt.NDArray[Any]) -> bytes:
    return array.tobytes()


def _csv(array: npt.NDArray[Any]) -> bytes:
    table = np.atleast_2d(array)
    if table.ndim != 2:
        raise HTTPException(406, "csv holds one line's map; ask for .../maps/{kind}/{line} or for format=npy")
    lines = (",".join(map(_digits, row)) for row in table)
    return ("\n".join(lines) + "\n").encode()


def _digits(value: Any) -> str:
    """Return a number with as few digits as give the same value back; nothing for NaN."""
    if value != value:
        return ""
    if isinstance(value, np.floating) and 1e-4 <= abs(value) < 1e16:
        return np.format_float_positional(value, trim="-")
    return str(int(value)) if isinstance(value, np.bool_) else str(value).removesuffix(".0")


def _tiff(array: npt.NDArray[Any]) -> bytes:
    image = array.astype(np.uint8) if array.dtype == bool else array.astype(np.float32)
    out = io.BytesIO()
    try:
        Image.fromarray(np.atleast_2d(image)).save(out, "TIFF")
    except (ValueError, struct.error, OSError) as error:
        raise InputError(f"a map of shape {array.shape} does not fit a TIFF file") from error
    return out.getvalue()


ENCODERS: dict[str, Callable[[npt.NDArray[Any]], bytes]] = {
    "npy": _npy,
    "octet-stream": _octets,
    "csv": _csv,
    "tiff": _tiff,
}
