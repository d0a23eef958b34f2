"""Maps as a NeXus HDF5 file in memory: an NXdata group with positions, that silx and H5Web plot at once."""

from __future__ import annotations

import io
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import orjson

from quietbeam.core.model.types import RunInfo
from quietbeam.core.version import __version__
from quietbeam.core.wire.runs import RunStatus


def write_hdf5(info: RunInfo, status: RunStatus, kind: str, values: npt.NDArray[Any], lines: tuple[str, ...]) -> bytes:
    """Return the file.

    Parameters
    ----------
    values
        (line, row, col), or (row, col) of ``measured``.
    lines
        Names along the first axis; empty for ``measured``.
    """
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator=f"quietbeam {__version__}")
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default=kind)
        entry["run_uid"], entry["plan"] = info.uid, info.plan
        data = entry.create_group(kind)
        data.attrs.update(NX_class="NXdata", signal=kind, axes=[*(["line"] if lines else []), "row", "col"])
        data.create_dataset(kind, data=values.astype(np.uint8) if values.dtype == bool else values, compression="gzip")
        if lines:
            data["line"] = [str(line) for line in lines]
        step, origin = info.step or (1.0, 1.0), info.origin or (0.0, 0.0)
        for axis, count, size, start in zip(("row", "col"), info.shape, step, origin, strict=True):
            data[axis] = start + size * np.arange(count)
            data[axis].attrs["units"] = (info.units or "pixel") if info.step else "pixel"
        process = entry.create_group("process")
        process.attrs["NX_class"] = "NXprocess"
        process["program"], process["version"] = "quietbeam", __version__
        process["maps_version"] = status.maps_version
        if status.evidence is not None:
            process["model"], process["model_sha256"] = status.evidence.model, status.evidence.model_sha256
            process["evidence"] = orjson.dumps(status.evidence.to_dict()).decode()
    return out.getvalue()
