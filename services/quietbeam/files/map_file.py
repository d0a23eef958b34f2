"""A measured map as it comes out of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.model.not_measured import known_seconds
from quietbeam.spectra import LineMap, MapInfo
from quietbeam.spectra.maps import Axes, Order

_LINE = re.compile(r"[A-Z][a-z]?_[KLM][ab]?\d?")
_UINT32_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFile:
    """What a file holds; see :func:`quietbeam.denoise` for shapes.

    Attributes
    ----------
    axes
        Where the pixels lie, or None.
    order
        Where the order of the pixels comes from: ``verified``, ``from_positions`` or ``assumed``; empty where unknown.
    remark
        For people: what was chosen, what was left out and why, and where the counts are not what the detectors gave.
    """

    counts: NDArray[Any]
    lines: tuple[str, ...] | None = None
    detectors: tuple[str, ...] | None = None
    i0: NDArray[Any] | None = None
    live_time_s: NDArray[Any] | None = None
    measured: NDArray[Any] | None = None
    axes: Axes | None = None
    order: Order = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""

    def __post_init__(self) -> None:
        dwell = self.metadata.get("dwell_s")
        if dwell is None or known_seconds(dwell) is not None:
            return
        said = f"a dwell of {dwell} s cannot be: it is taken as not known"
        object.__setattr__(self, "metadata", {k: v for k, v in self.metadata.items() if k != "dwell_s"})
        object.__setattr__(self, "remark", "; ".join(filter(None, (self.remark, said))))

    @property
    def origin(self) -> tuple[float, float] | None:
        """Position (row axis, col axis) of pixel (0, 0) in `units`."""
        return None if self.axes is None else self.axes.origin

    @property
    def step(self) -> tuple[float, float] | None:
        """Pixel size (row, col) in `units`."""
        return None if self.axes is None else self.axes.step

    @property
    def units(self) -> str:
        """Of positions; empty where unknown."""
        return "" if self.axes is None else self.axes.units

    @property
    def positions(self) -> NDArray[Any] | None:
        """(2, row, col) measured positions along the row axis and the col axis."""
        return None if self.axes is None else self.axes.positions

    def select(self, lines: Sequence[str]) -> MapFile:
        """Keep only the named lines.

        Raises
        ------
        InputError
            When a line is not there.
        """
        have = self.lines or tuple(f"line_{i}" for i in range(self.counts.shape[1]))
        missing = [name for name in lines if name not in have]
        if missing:
            raise InputError(f"no line {', '.join(missing)} in the file; it has {', '.join(have)}")
        index = [have.index(name) for name in lines]
        if index == list(range(len(have))):
            return self
        return replace(self, counts=self.counts[:, index], lines=tuple(lines))

    def line_map(self, source: str) -> LineMap:
        """Return the map with whole counts as uint32, or fitted areas as float32; NaN and 0 where nothing was measured.

        Raises
        ------
        InputError
            Lines without names that documents could carry.
        """
        misspelt = [name for name in self.lines or () if not _LINE.fullmatch(name)]
        if not self.lines or misspelt:
            but = f" but {','.join(misspelt)}" if misspelt else ""
            raise InputError(
                f"{source} does not name its lines as Fe_Ka, Pt_La{but}: add `lines`, or take some with --lines"
            )
        n_det, _, rows, cols = self.counts.shape
        valid = np.isfinite(self.counts).all((0, 1)) if self.counts.dtype.kind == "f" else np.ones((rows, cols), bool)
        valid = valid if self.measured is None else valid & np.asarray(self.measured, bool)
        values = np.where(valid, self.counts, 0)
        whole = (
            values.min(initial=0) >= 0 and values.max(initial=0) <= _UINT32_MAX and (values == np.rint(values)).all()
        )
        info = MapInfo(
            source=source,
            detectors=self.detectors or tuple(f"det{d + 1}" for d in range(n_det)),
            shape=(rows, cols),
            live_time_s=None if self.live_time_s is None else np.asarray(self.live_time_s, float),
            i0=None if self.i0 is None else np.asarray(self.i0, float),
            dwell_s=self.metadata.get("dwell_s"),
            axes=self.axes,
            order=self.order,
        )
        return LineMap(
            info=info, lines=self.lines, counts=values.astype(np.uint32 if whole else np.float32), measured=valid
        )
