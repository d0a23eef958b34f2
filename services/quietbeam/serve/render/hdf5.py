"""Maps as a NeXus HDF5 file in memory, in the layout of the files of `quietbeam denoise`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from quietbeam.core.model.types import BoolArray, RunInfo
from quietbeam.core.wire.runs import RunStatus


def write_hdf5(
    info: RunInfo,
    status: RunStatus,
    maps: Mapping[str, npt.NDArray[Any]],
    lines: tuple[str, ...],
    measured: BoolArray,
    positions: npt.NDArray[Any] | None = None,
    units: str = "",
    regions: Mapping[str, BoolArray] | None = None,
) -> bytes:
    """Return the file.

    Parameters
    ----------
    maps
        (line, row, col) by kind; the first is shown by default.
    lines
        Names along the first axis.
    measured
        (row, col).
    positions
        (2, row, col) measured positions, or None.
    units
        Of the maps, where these are not as they were counted.
    regions
        (row, col) masks by name.
    """
    from quietbeam.files.result import Provenance  # readers of all formats come along: only when a file is asked for
    from quietbeam.files.run_axes import axes_of_run
    from quietbeam.files.writers.nexus import NexusMaps, nexus_bytes, units_of

    provenance = Provenance(
        source=info.uid,
        settings={"maps_version": status.maps_version},
        axes=axes_of_run(info, positions),
        order=info.order.value,
        run_uid=info.uid,
        plan=info.plan,
    )
    return nexus_bytes(
        NexusMaps(
            maps=maps,
            lines=lines,
            detectors=info.detectors,
            measured=measured,
            evidence=status.evidence,
            units=units or units_of(info.kind),
            provenance=provenance,
            regions=regions or {},
        )
    )
