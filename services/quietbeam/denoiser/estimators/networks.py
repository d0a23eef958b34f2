"""The networks at work: device, precision, tiles, flips."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import torch
from torch import nn

from quietbeam.core.errors import InputError, WeightsError
from quietbeam.core.model.types import FloatArray
from quietbeam_models.network import Denoiser, native_bf16
from quietbeam_models.weights import DEFAULT, DamagedWeightsError, Pretrained, load_weights

from ..data.counts import Sums
from ..options import untold

TILE_HALO = 32
FLIPS = (0, 3, 1, 2, 4, 7, 5, 6)
"""Order in which flips and turns are averaged: the half turn first, as it brings most of what all of them do."""
_BAND_ROWS = 64
_BAND_PIXELS = 2**20
"""Line-pixels of a tile while somebody waits: between two convolutions of it lies a fraction of a second."""


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    InputError
        When the device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N or mps") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False) or (device.index or 0) >= max(torch.cuda.device_count(), 1):
        raise InputError(f"device {name!r} is not available here; use device='auto'")
    return device


def use_threads(device: torch.device, threads: int | None) -> None:
    """Set the number of CPU threads.

    More threads than free cores is far worse than too few: every operation waits for the thread that lost its core
    (measured: 10 times slower steps on two busy cores with two threads than with one).
    """
    if device.type != "cpu" or threads == 0:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, threads if threads is not None else min(cores - 1, 8)))


@contextmanager
def own_threads() -> Iterator[None]:
    """Give the caller's number of CPU threads back in the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_cores(look_s: float = 0.2) -> int:
    """Return how many cores nobody uses while this call looks, at least 1.

    Not from the load average: that holds for a minute what a process did itself, and a second map would get one core.
    """
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    busy = psutil.cpu_percent(look_s, percpu=True)
    return max(1, round(sum(1.0 - busy[core] / 100 for core in mine if core < len(busy))))


@contextmanager
def giving_way(network: Denoiser, between: Callable[[], object] | None, *, backward: bool = False) -> Iterator[None]:
    """Call ``between()`` before every convolution of the network, and with ``backward`` before every gradient of one.

    A whole pass may take a second on a CPU; whoever waits need not wait for it. ``between()`` may use the network.
    """
    if between is None:
        yield
        return
    hooks = []

    def pause(*_: object) -> None:  # what a hook returns would replace the convolution's input
        between()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_pre_hook(pause))
            if backward:
                hooks.append(module.register_full_backward_pre_hook(pause))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


_LOADED: dict[str, Pretrained] = {}


def pretrained(name: str = "") -> Pretrained:
    """Load pretrained weights, the shipped ones once per process: a file may be another one the next time.

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


def turned(image: FloatArray, code: int) -> FloatArray:
    """Apply flip or turn ``code`` (0..7) to the last two axes."""
    image = image[..., ::-1, :] if code & 1 else image
    image = image[..., ::-1] if code & 2 else image
    return np.swapaxes(image, -1, -2) if code & 4 else image


def unturned(image: FloatArray, code: int) -> FloatArray:
    """Undo :func:`turned`."""
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
    between: Callable[[], object] | None = None,
    told: Callable[[float], object] = untold,
) -> tuple[FloatArray, FloatArray | None]:
    """Return the network's rate (line, row, col) [counts at exposure 1], 0 for lines without a count.

    With it comes the squared error that the network expects of its rate, same axes, or None where it has no such head.

    Parameters
    ----------
    tile
        Maps larger than this are computed in tiles that overlap and are blended, so that memory stays bounded.
    flips
        Flips and turns to average.
    between
        Called at every convolution, see :func:`giving_way`.
    told
        Is told which share is done, tile by tile.
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
        band = tile if between is None else _BAND_PIXELS // (live.size * min(cols, tile + 2 * TILE_HALO))
        height = max(min(band, tile), min(_BAND_ROWS, tile))
        with giving_way(network, between):
            for k, code in enumerate(FLIPS[:flips]):
                a, b = turned(counts, code), turned(exposure, code)
                total += unturned(_tiles(network, a, b, device, (height, tile), part_of(told, k, flips)), code)
        for power, one in enumerate(total, 1):
            out[power - 1, live] = one / flips / usual[live, None, None] ** power
    return out[0], out[1] if maps == 2 else None


def _tiles(
    network: Denoiser,
    counts: FloatArray,
    exposure: FloatArray,
    device: torch.device,
    tile: tuple[int, int],
    told: Callable[[float], object],
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
            told((r * cols + min(c + width, cols) * min(height, rows - r)) / (rows * cols))
    return (out / weight).astype(np.float32, copy=False)


def part_of(told: Callable[[float], object], part: int, parts: int) -> Callable[[float], object]:
    """Return who is to be told of one of equal parts, where ``told`` wants to know of all of them."""
    return lambda share: told((part + share) / parts)


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
