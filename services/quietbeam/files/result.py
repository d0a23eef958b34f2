"""What a writer needs of a denoised map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.evidence import RunEvidence
from quietbeam.spectra.maps import Axes


class Result(Protocol):
    """Maps with their evidence; see :class:`quietbeam.denoiser.offline.DenoiseResult`."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Names along the first axis of the maps."""

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names."""

    @property
    def denoised(self) -> NDArray[np.float32]:
        """(line, row, col)."""

    @property
    def raw(self) -> NDArray[np.float32]:
        """(line, row, col)."""

    @property
    def uncertainty(self) -> NDArray[np.float32]:
        """(line, row, col)."""

    @property
    def chi2(self) -> NDArray[np.float32]:
        """(line, row, col), local chi-square of the residual."""

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(row, col)."""

    @property
    def evidence(self) -> RunEvidence:
        """Per line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a result comes from.

    Attributes
    ----------
    source
        Name of the file, or uid of the run.
    settings
        How it was made, plain JSON types.
    axes
        Where the pixels lie, or None.
    order
        How the order of the pixels is known: ``verified``, ``from_positions``, ``assumed``; empty where unknown.
    run_uid, plan
        Of the run; empty for files of other programs.
    units
        Of the maps, where these are not as they were counted.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    axes: Axes | None = None
    order: str = ""
    run_uid: str = ""
    plan: str = ""
    units: str = ""


def kinds(result: Result) -> dict[str, NDArray[Any]]:
    """Return the maps by kind."""
    return {"denoised": result.denoised, "raw": result.raw, "uncertainty": result.uncertainty}


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield an HDF5 file in memory, written when it is complete: HDF5 itself may not say that a disk is full."""
    image = BytesIO()
    with h5py.File(image, "w") as file:
        yield file
    path.write_bytes(image.getbuffer())
