"""Inference with a network: precision, tiles, flips, and calls between its layers."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from quietbeam.core.errors import WeightsError
from quietbeam.core.model.types import FloatArray
from quietbeam_models.network import Denoiser, native_bf16
from quietbeam_models.weights import DEFAULT, DamagedWeightsError, Pretrained, load_weights

from ..cooperative import CooperativeSchedule
from ..costs import PassCost
from ..data.area_noise import NoiseModel
from ..data.sums import Sums
from ..options import ignore_progress

TILE_HALO = 32
FLIPS = (0, 3, 1, 2, 4, 7, 5, 6)
"""Order in which flips and turns are averaged: the half turn first, as it gives most of the improvement."""
_BAND_ROWS = 64
_BAND_PIXELS = 2**20
"""Line-pixels of a tile when there is a ``yield_callback``: a convolution of it takes a fraction of a second."""


@contextmanager
def yield_between_layers(
    network: Denoiser, yield_callback: Callable[[], object] | None, *, backward: bool = False
) -> Iterator[None]:
    """Call ``yield_callback()`` before every convolution of the network, with ``backward`` also before its gradient.

    A whole pass may take a second on a CPU; rows that arrive meanwhile are served in the callback, which may use the
    network.
    """
    if yield_callback is None:
        yield
        return

    def pause(*_: object) -> None:  # what a hook returns would replace the convolution's input
        yield_callback()

    def pause_before_gradient(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(pause)

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_pre_hook(pause))
            if backward:
                hooks.append(module.register_forward_hook(pause_before_gradient))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


_LOADED: dict[str, Pretrained] = {}


def pretrained(name: str = "") -> Pretrained:
    """Load pretrained weights, the shipped ones once per process; a file may have changed and is read again.

    Raises
    ------
    WeightsError
        When they are missing or damaged.
    """
    name = name or DEFAULT
    if name in _LOADED:
        return _LOADED[name]
    try:
        loaded = load_weights(name)
    except DamagedWeightsError as error:
        raise WeightsError(str(error)) from error
    if name == loaded.name:
        _LOADED[name] = loaded
    return loaded


def fresh_copy(network: Denoiser, device: torch.device) -> Denoiser:
    """Return an independent copy on ``device``."""
    return copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def apply_symmetry(image: FloatArray, code: int) -> FloatArray:
    """Apply flip or turn ``code`` (0..7) to the last two axes."""
    image = image[..., ::-1, :] if code & 1 else image
    image = image[..., ::-1] if code & 2 else image
    return np.swapaxes(image, -1, -2) if code & 4 else image


def undo_symmetry(image: FloatArray, code: int) -> FloatArray:
    """Undo :func:`apply_symmetry`."""
    image = np.swapaxes(image, -1, -2) if code & 4 else image
    image = image[..., ::-1] if code & 2 else image
    return image[..., ::-1, :] if code & 1 else image


@torch.no_grad()
def predict(
    network: Denoiser,
    sums: Sums,
    device: torch.device,
    *,
    tile: int = 256,
    flips: int = 1,
    yield_callback: Callable[[], object] | None = None,
    on_progress: Callable[[float], object] = ignore_progress,
) -> tuple[FloatArray, FloatArray | None]:
    """Return the network's rate (line, row, col) [counts at exposure 1], 0 for lines without a count.

    With it comes the squared error that the network expects of its rate, same axes, or None where it has no such head.

    Parameters
    ----------
    tile
        Maps larger than this are computed in tiles that overlap and are blended, so that memory stays bounded.
    flips
        Flips and turns to average.
    yield_callback
        Called at every convolution, see :func:`yield_between_layers`.
    on_progress
        Called after every tile with the share that is done.
    """
    lines, rows, cols = sums.counts.shape
    measured = sums.exposure > 0
    n = np.maximum(measured.sum((1, 2)), 1)
    usual = sums.exposure.sum((1, 2)) / n
    live = np.flatnonzero((sums.counts.sum((1, 2)) > 0) & (usual > 0))
    maps = 1 if network.error_head is None else 2
    out = np.zeros((maps, lines, rows, cols), np.float32)
    if live.size:
        counts = sums.counts[live] * measured[live]
        exposure = sums.exposure[live] / usual[live, None, None]
        total = np.zeros((maps, *counts.shape), np.float32)
        band = tile if yield_callback is None else _BAND_PIXELS // (live.size * min(cols, tile + 2 * TILE_HALO))
        height = max(min(band, tile), min(_BAND_ROWS, tile))
        with yield_between_layers(network, yield_callback):
            for k, code in enumerate(FLIPS[:flips]):
                a, b = apply_symmetry(counts, code), apply_symmetry(exposure, code)
                total += undo_symmetry(
                    _tiles(network, a, b, device, (height, tile), part_of_progress(on_progress, k, flips)), code
                )
        for power, image in enumerate(total, 1):
            out[power - 1, live] = image / flips / usual[live, None, None] ** power
    return out[0], out[1] if maps == 2 else None


def _tiles(
    network: Denoiser,
    counts: FloatArray,
    exposure: FloatArray,
    device: torch.device,
    tile: tuple[int, int],
    on_progress: Callable[[float], object],
) -> FloatArray:
    """Return the maps of :func:`_forward`, (map, line, row, col), from tiles that fade into each other."""
    rows, cols = counts.shape[-2:]
    height, width = tile
    if rows <= height + TILE_HALO and cols <= width + TILE_HALO:
        return _forward(network, counts, exposure, device)
    out = np.zeros((1 if network.error_head is None else 2, *counts.shape), np.float32)
    weight = np.zeros((rows, cols), np.float32)
    for r in range(0, rows, height):
        for c in range(0, cols, width):
            spans = ((r, height, rows), (c, width, cols))
            window = tuple(slice(max(a - TILE_HALO, 0), min(a + n + TILE_HALO, of)) for a, n, of in spans)
            part = _forward(network, counts[:, *window], exposure[:, *window], device)
            fade = np.multiply.outer(_fade(window[0], rows), _fade(window[1], cols))
            out[:, :, *window] += part * fade
            weight[*window] += fade
            on_progress((r * cols + min(c + width, cols) * min(height, rows - r)) / (rows * cols))
    return (out / weight).astype(np.float32, copy=False)


def part_of_progress(on_progress: Callable[[float], object], part: int, parts: int) -> Callable[[float], object]:
    """Return a callback for the share of one of several equal parts; it reports the share of all of them."""
    return lambda share: on_progress((part + share) / parts)


def _fade(window: slice, length: int) -> FloatArray:
    """Return weights that rise over the inner half of the halo, where the window ends inside the map."""
    distance = np.arange(window.stop - window.start, dtype=np.float32) + 0.5
    rise: FloatArray = np.clip((distance - TILE_HALO / 2) / (TILE_HALO / 2), 1e-6, 1.0).astype(np.float32)
    ones = np.ones_like(rise)
    return (rise if window.start > 0 else ones) * (rise[::-1] if window.stop < length else ones)


def _forward(network: Denoiser, counts: FloatArray, exposure: FloatArray, device: torch.device) -> FloatArray:
    # a copy: an axis of one pixel that was turned keeps its negative stride however contiguous it is
    a = torch.from_numpy(counts.copy())[None].to(device)
    b = torch.from_numpy(exposure.copy())[None].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device)):
        rate, variance = network.estimate(a, b)
    maps = rate if variance is None else torch.cat([rate, variance])
    return maps.float().cpu().numpy()


@dataclass(frozen=True, slots=True)
class NetworkEstimator:
    """The networks of a run, by name: ``pretrained`` and, once there are steps, ``fine_tuned``.

    Attributes
    ----------
    area_noise
        Noise of fitted areas, which makes effective counts of them; None for photon counts.
    tile
        See :func:`predict`.
    cost
        Learns what a pass costs.
    """

    networks: Mapping[str, Denoiser]
    area_noise: NoiseModel | None
    device: torch.device
    tile: int
    schedule: CooperativeSchedule
    cost: PassCost = field(default_factory=PassCost)

    @property
    def multiple(self) -> int:
        """Rows and columns are padded to a multiple of this."""
        return max(network.config.multiple for network in self.networks.values())

    def estimate(
        self, name: str, sums: Sums, flips: int = 1, on_progress: Callable[[float], object] = ignore_progress
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return a network's rate of ``sums`` and its expected squared error, each (line, row, col)."""
        noise, started = self.area_noise, time.monotonic()
        rate, variance = predict(
            self.networks[name],
            sums if noise is None else noise.to_counts(sums),
            self.device,
            tile=self.tile,
            flips=flips,
            yield_callback=self.schedule.yield_callback,
            on_progress=on_progress,
        )
        self.cost.record(rate.size * flips, time.monotonic() - started)
        if noise is not None:
            rate = noise.from_rate(rate).astype(np.float32)
            variance = None if variance is None else variance * noise.factor[:, None, None] ** 2
        return rate, variance
