"""NeXus HDF5 out: opens in silx and H5Web."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.version import __version__

from ..names import group_name, unlike_names
from ..result import Result, new_hdf5


def write_nexus(path: Path, result: Result, *, source: str, settings: Mapping[str, Any]) -> None:
    """Write maps as NeXus HDF5.

    Groups ``entry/denoised``, ``raw``, ``uncertainty`` and ``chi2`` are NXdata of (line, row, col),
    ``entry/process`` is the provenance with the evidence as JSON, ``entry/evidence`` holds it per line.
    """
    with new_hdf5(path) as file:
        file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = "denoised"
        entry["title"] = f"quietbeam: {source}"
        entry["definition"] = "NXxrfmap"
        for name, image in (
            ("denoised", result.denoised),
            ("raw", result.raw),
            ("uncertainty", result.uncertainty),
            ("chi2", result.chi2),
        ):
            data = _group(entry, name, "NXdata")
            data.attrs["signal"], data.attrs["axes"] = "data", ["line", "row", "col"]
            stored = data.create_dataset("data", data=image, compression="gzip", compression_opts=1, shuffle=True)
            stored.attrs["units"] = "" if name == "chi2" else "counts"
            data["line"] = np.arange(image.shape[0])
            data["row"], data["col"] = np.arange(image.shape[1]), np.arange(image.shape[2])
            data["line_names"] = np.array(result.lines, dtype=h5py.string_dtype())
            if name == "denoised":
                data["data_errors"] = h5py.SoftLink("/entry/uncertainty/data")
        entry["measured"] = result.measured
        evidence = _group(entry, "evidence", "NXcollection")
        told = result.evidence.to_dict()["lines"]
        for group, line in zip(unlike_names([line["line"] for line in told], group_name), told, strict=True):
            one = _group(evidence, group, "NXcollection")
            for key, value in line.items():
                if value is not None:
                    one.attrs[key] = json.dumps(value) if isinstance(value, dict) else value
        process = _group(entry, "process", "NXprocess")
        process["program"], process["version"] = "quietbeam", __version__
        process["evidence"] = json.dumps(result.evidence.to_dict())
        process["settings"] = json.dumps(dict(settings))
        process["detectors"] = np.array(result.detectors, dtype=h5py.string_dtype())


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
