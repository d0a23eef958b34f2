"""Pictures of a report: maps with their scale, and the interval of a dwell gain."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from quietbeam.core.model.display import orientation_of
from quietbeam.core.model.evidence import LineEvidence
from quietbeam.core.model.types import FloatArray, RunInfo

from ..render.colormaps import Colouring, draw_png

_PICTURE = 320
"""Wanted width or height of a map in screen pixels."""
_THINNEST = 24
"""Height of a map of one row in screen pixels."""
_CMAP = "viridis"


def unit_of(info: RunInfo) -> str:
    """Return the unit of a run's steps as it is printed."""
    return "µm" if info.units == "um" else info.units


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One map.

    Attributes
    ----------
    kind
        ``raw``, ``denoised`` or ``uncertainty``.
    picture
        The map as an address that holds the data.
    width, height
        Screen pixels.
    high
        Value at the bright end.
    scale_px, scale_text
        Length of the scale bar in screen pixels, and what it says; 0 for no bar.
    """

    kind: str
    caption: str
    picture: str
    width: int
    height: int
    high: float
    unit: str
    scale_px: float
    scale_text: str


def draw_figure(kind: str, caption: str, image: FloatArray, high: float, info: RunInfo) -> Figure:
    """Draw a map (row, col) from 0 to `high`, as the profile says that it lies; the raw map gets a scale bar."""
    orientation = orientation_of(info)
    image = orientation.apply(image)
    zoom = max(1, round(_PICTURE / max(image.shape)))
    step = orientation.order(info.step or (1.0, 1.0))
    width = image.shape[1] * zoom
    height = round(image.shape[0] * zoom * abs(step[0] / step[1])) if step[1] else image.shape[0] * zoom
    scale_px, scale_text = _scale_bar(info, step[1], image.shape[1], width) if kind == "raw" else (0.0, "")
    return Figure(
        kind=kind,
        caption=caption,
        picture=_png(image, high, zoom),
        width=width,
        height=max(_THINNEST if image.shape[0] == 1 else 1, height),
        high=high,
        unit="counts" if info.kind == "counts" else "area",
        scale_px=scale_px,
        scale_text=scale_text,
    )


def colour_bar() -> str:
    """Return the colour scale as an address that holds the data."""
    return _png(np.linspace(0, 1, 150, dtype=np.float32)[None], 1.0, 1)


def _png(image: FloatArray, high: float, zoom: int) -> str:
    png = draw_png(image, Colouring(cmap=_CMAP, vmin=0.0, vmax=high, zoom=zoom))
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _scale_bar(info: RunInfo, step: float, pixels: int, width: int) -> tuple[float, str]:
    """Return length and text of a bar of a round length, at most a third of a map of `width` screen pixels.

    Parameters
    ----------
    step, pixels
        Size and number of the pixels of the horizontal axis.
    """
    if info.step is None or not step:
        return 0.0, ""
    whole = abs(step) * pixels
    power = 10.0 ** np.floor(np.log10(whole / 3))
    length = next(n * power for n in (5, 2, 1) if n * power <= whole / 3)
    return width * length / whole, f"{length:g} {unit_of(info)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """Places of an interval on a logarithmic axis, in screen pixels."""

    low: float
    high: float
    at: float


def draw_whisker(line: LineEvidence, most: float) -> Whisker | None:
    """Return the interval of a dwell gain on an axis from 1 to `most`; None where there is no gain to show."""
    if line.estimator == "raw" or line.dwell_gain is None or line.dwell_gain <= 0:
        return None

    def at(gain: float) -> float:
        return 4 + 112 * float(np.clip(np.log(max(gain, 1e-3)) / np.log(most), -0.03, 1))

    low = at(line.dwell_gain_low if line.dwell_gain_low is not None else line.dwell_gain)
    high = at(line.dwell_gain_high) if line.dwell_gain_high is not None else 118.0 if line.dwell_gain_low else low
    return Whisker(low=low, high=high, at=at(line.dwell_gain))
