"""Colour look-up tables and the drawing of one map as PNG; the dashboard reads the same tables."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from quietbeam.core.errors import InputError

Scale = Literal["linear", "sqrt", "log"]
SCALES: tuple[Scale, ...] = ("linear", "sqrt", "log")
DASHBOARD = Path(__file__).parents[1] / "dashboard"
NOT_MEASURED_RGB = (60, 65, 74)
"""Grey of pixels without a measurement; in no colour map but grey's own, and the same in the dashboard."""


@cache
def lookup_tables() -> dict[str, npt.NDArray[np.uint8]]:
    """Return the tables, each (256, 3) RGB."""
    texts: dict[str, str] = json.loads((DASHBOARD / "colormaps.json").read_text(encoding="utf-8"))
    return {name: np.frombuffer(bytes.fromhex(text), np.uint8).reshape(256, 3) for name, text in texts.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Colouring:
    """How values become colours.

    Attributes
    ----------
    vmin, vmax
        Values at the ends of the colour map; None takes 0 (or the smallest value when negative) and the largest.
    zoom
        Screen pixels per map pixel.
    """

    cmap: str = "viridis"
    scale: Scale = "linear"
    vmin: float | None = None
    vmax: float | None = None
    zoom: int = 1


def draw_png(values: npt.NDArray[Any], colouring: Colouring) -> bytes:
    """Draw a map (row, col); NaN is grey.

    Raises
    ------
    InputError
        Unknown colour map, empty range.
    """
    tables = lookup_tables()
    if colouring.cmap not in tables:
        raise InputError(f"no colour map {colouring.cmap!r}; there are {', '.join(tables)}")
    known = np.isfinite(values)
    low = colouring.vmin if colouring.vmin is not None else min(0.0, float(np.min(values, initial=0.0, where=known)))
    high = colouring.vmax
    if high is None:
        high = float(np.max(values, initial=low, where=known))
        high = high if high > low else low + 1.0
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        raise InputError(f"vmax must be larger than vmin, got vmin={low:g} and vmax={high:g}")
    part = np.clip((np.where(known, values, low).astype(np.float64) - low) / (high - low), 0.0, 1.0)
    if colouring.scale == "sqrt":
        part = np.sqrt(part)
    elif colouring.scale == "log":
        part = np.log1p(part * 999.0) / np.log(1000.0)
    rgb = tables[colouring.cmap][np.rint(part * 255).astype(np.uint8)]
    rgb[~known] = NOT_MEASURED_RGB
    image = Image.fromarray(rgb)
    if colouring.zoom > 1:
        image = image.resize((image.width * colouring.zoom, image.height * colouring.zoom), Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
