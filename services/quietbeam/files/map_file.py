"""A measured map as it comes out of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from quietbeam.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFile:
    """What a file holds; see :func:`quietbeam.denoise` for shapes.

    Attributes
    ----------
    step
        Pixel size (row, col) in ``units``, or None.
    """

    counts: NDArray[Any]
    lines: tuple[str, ...] | None = None
    detectors: tuple[str, ...] | None = None
    i0: NDArray[Any] | None = None
    live_time_s: NDArray[Any] | None = None
    measured: NDArray[Any] | None = None
    step: tuple[float, float] | None = None
    units: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

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
        return replace(self, counts=self.counts[:, index], lines=tuple(lines))
