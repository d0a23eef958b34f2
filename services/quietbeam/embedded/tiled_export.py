"""HDF5 out of Tiled for a denoised run: its arrays, and its metadata as attributes (nested parts as JSON text).

Tiled's own HDF5 export refuses nested metadata. This file needs nothing of quietbeam, so that any Tiled server can load
it: deploy/tiled.yaml names it under ``media_types``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import h5py

SPEC = "XRFDenoisedRun"
MEDIA_TYPE = "application/x-hdf5"


def _attributes(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what HDF5 can hold: numbers, texts, lists of texts; everything else as JSON; None is left out."""
    for name, value in metadata.items():
        if isinstance(value, str | int | float | bool):
            yield name, value
        elif isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
            yield name, list(value)
        elif value is not None:
            yield name, json.dumps(value, default=str)


async def serialize_hdf5(_media_type: str, node: Any, metadata: Mapping[str, Any], filter_for_access: Any) -> Any:
    """Return the bytes of the file; every array is also an NXdata group with its dimensions named."""
    from tiled.serialization.container import walk
    from tiled.utils import ensure_awaitable

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["NX_class"] = "NXentry"
        for name, value in _attributes(metadata):
            file.attrs[name] = value
        lines = list(metadata.get("lines", ()))
        async for path, adapter in walk(node, filter_for_access):
            values = await ensure_awaitable(adapter.read)
            dims = list(adapter.structure().dims or ())
            group = file.create_group("/".join(path))
            group.attrs.update(
                {"NX_class": "NXdata", "signal": "data", "axes": [d if d == "line" else "." for d in dims]}
            )
            group.create_dataset("data", data=values, compression="gzip", shuffle=True)
            for name, value in _attributes(adapter.metadata()):
                group["data"].attrs[name] = value
            group["data"].attrs["dims"] = dims
            if "line" in dims:
                group.create_dataset("line", data=lines, dtype=h5py.string_dtype())
        if "denoised" in file:
            file.attrs["default"] = "denoised"
    return buffer.getbuffer()
