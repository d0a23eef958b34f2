"""NeXus HDF5 out: the one layout of the files of `quietbeam denoise` and of the REST API; opens in silx and H5Web."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import BoolArray
from quietbeam.core.version import __version__

from ..names import group_name, unlike_names
from ..result import Provenance, Result
from .coordinates import Coordinate, coordinates


@dataclass(frozen=True, slots=True, kw_only=True)
class NexusMaps:
    """What a file holds.

    Attributes
    ----------
    maps
        (line, row, col) by kind; the first is shown by default.
    lines, detectors
        Names.
    measured
        (row, col); maps become NaN elsewhere.
    evidence
        None where there is none yet.
    units
        Of all maps but ``chi2``.
    regions
        (row, col) masks by name.
    """

    maps: Mapping[str, npt.NDArray[Any]]
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    measured: BoolArray
    evidence: RunEvidence | None
    provenance: Provenance
    units: str = "counts"
    regions: Mapping[str, BoolArray] = field(default_factory=dict)


def maps_of_result(result: Result, provenance: Provenance) -> NexusMaps:
    """Return what the file of a result holds."""
    maps = {kind: getattr(result, kind) for kind in ("denoised", "raw", "uncertainty", "chi2")}
    return NexusMaps(
        maps=maps,
        lines=result.lines,
        detectors=result.detectors,
        measured=result.measured,
        evidence=result.evidence,
        units=provenance.units or units_of(result.evidence.kind),
        provenance=provenance,
    )


def units_of(kind: str) -> str:
    """Return the units of maps of whole counts, or of fitted areas."""
    return "counts" if kind == "counts" else "fitted area"


def nexus_bytes(content: NexusMaps) -> bytes:
    """Return a NeXus HDF5 file.

    Each kind of map is an NXdata ``entry/KIND`` of (line, row, col), whose axes ``row`` and ``col`` are positions where
    they are known, else indices. ``entry/measured`` is (row, col); ``entry/positions`` holds the measured positions of
    every pixel; ``entry/regions`` the masks of named regions; ``entry/evidence`` the evidence per line;
    ``entry/process`` the provenance, with the evidence as JSON.
    """
    image = BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
        entry = _group(file, "entry", "NXentry")
        about = content.provenance
        entry["title"], entry["definition"] = f"quietbeam: {about.source}", "NXxrfmap"
        for name, text in (("run_uid", about.run_uid), ("plan", about.plan), ("pixel_order", about.order)):
            if text:
                entry[name] = text
        for kind in content.maps:
            _write_maps(entry, kind, content)
        if content.maps:
            entry.attrs["default"] = next(iter(content.maps))
        entry["measured"] = content.measured
        _write_regions(entry, content)
        _write_positions(entry, content)
        _write_evidence(_group(entry, "evidence", "NXcollection"), content.evidence)
        _write_process(_group(entry, "process", "NXprocess"), content)
    return image.getvalue()


def _write_maps(entry: h5py.Group, kind: str, content: NexusMaps) -> None:
    data = _group(entry, kind, "NXdata")
    data.attrs["signal"], data.attrs["axes"] = "data", ["line", "row", "col"]
    image = np.where(content.measured, content.maps[kind], np.float32(np.nan))
    stored = data.create_dataset("data", data=image, compression="gzip", compression_opts=1, shuffle=True)
    stored.attrs["units"] = "" if kind == "chi2" else content.units
    data["line"] = np.arange(len(content.lines))
    data["line_names"] = np.array(content.lines, dtype=h5py.string_dtype())
    rows, cols = content.measured.shape
    for axis, found in zip(("row", "col"), coordinates(content.provenance.axes, (rows, cols)), strict=True):
        _write_axis(data, axis, found)
    if kind == "denoised" and "uncertainty" in content.maps:
        data["data_errors"] = h5py.SoftLink("/entry/uncertainty/data")


def _write_regions(entry: h5py.Group, content: NexusMaps) -> None:
    if not content.regions:
        return
    group = _group(entry, "regions", "NXcollection")
    places = unlike_names(list(content.regions), group_name)
    for place, (name, mask) in zip(places, content.regions.items(), strict=True):
        group.create_dataset(place, data=mask, compression="gzip").attrs["name"] = name


def _write_axis(data: h5py.Group, axis: str, found: Coordinate) -> None:
    data[axis] = found.values
    data[axis].attrs["units"] = found.units
    if found.name:
        data[axis].attrs["long_name"] = found.name


def _write_positions(entry: h5py.Group, content: NexusMaps) -> None:
    axes = content.provenance.axes
    if axes is None or axes.positions is None:
        return
    group = _group(entry, "positions", "NXcollection")
    for k, axis in enumerate(("row", "col")):
        _write_axis(group, axis, Coordinate(values=axes.positions[k], units=axes.units, name=axes.names[k]))


def _write_evidence(group: h5py.Group, evidence: RunEvidence | None) -> None:
    lines = [] if evidence is None else evidence.to_dict()["lines"]
    for name, line in zip(unlike_names([line["line"] for line in lines], group_name), lines, strict=True):
        axis = _group(group, name, "NXcollection")
        for key, value in line.items():
            if value is not None:
                axis.attrs[key] = json.dumps(value) if isinstance(value, dict) else value


def _write_process(process: h5py.Group, content: NexusMaps) -> None:
    process["program"], process["version"] = "quietbeam", __version__
    if content.evidence is not None:
        process["model"], process["model_sha256"] = content.evidence.model, content.evidence.model_sha256
        process["evidence"] = json.dumps(content.evidence.to_dict())
    process["settings"] = json.dumps(dict(content.provenance.settings))
    process["detectors"] = np.array(content.detectors, dtype=h5py.string_dtype())


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
