"""Phantoms of the benchmark: specimens drawn by other rules than those of pretraining, with known rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Rates = NDArray[np.float64]


def star(rng: np.random.Generator, size: int = 128, lines: int = 4) -> Rates:
    """Return a resolution star with frame and labels, (line, row, col), mean 1; the last line is the flat substrate."""
    fine = 4 * size
    r, c = np.mgrid[0:fine, 0:fine] / fine - 0.5
    r, c = r - rng.uniform(-0.05, 0.05), c - rng.uniform(-0.05, 0.05)
    radius, angle = np.hypot(r, c), np.arctan2(r, c)
    spokes = (np.sin(24 * angle + rng.uniform(0, 6)) > 0) & (radius < 0.42) & (radius > 0.02)
    for cut in (0.1, 0.2, 0.3):
        spokes &= np.abs(radius - cut) > 0.006
    frame = (np.maximum(np.abs(r), np.abs(c)) > 0.46) & (np.maximum(np.abs(r), np.abs(c)) < 0.475)
    pattern = (spokes | frame).reshape(size, 4, size, 4).mean((1, 3))
    smooth = ndimage.gaussian_filter(rng.standard_normal((size, size)), size / 6, mode="wrap")
    smooth = 1 + 0.2 * smooth / smooth.std()
    maps = [pattern + 0.03, pattern * 0.5 + 0.25, 1.2 - pattern, smooth * (1 - 0.3 * pattern)]
    maps += [0.1 + pattern * rng.uniform(0.1, 2) for _ in range(max(0, lines - 5))] + [np.ones_like(pattern)]
    return _normalised(maps[: lines - 1] + maps[-1:] if lines > 1 else maps[:1])


def cell(rng: np.random.Generator, size: int = 128, lines: int = 8) -> Rates:
    """Return a cell: body, nucleus, organelles, filaments, hot spots; last line flat."""
    r, c = np.mgrid[0:size, 0:size] / size - 0.5
    warp = [ndimage.gaussian_filter(rng.standard_normal((size, size)), size / 10) for _ in range(2)]
    r2, c2 = r + 0.05 * warp[0] / warp[0].std(), c + 0.05 * warp[1] / warp[1].std()
    body = _edge(0.38 - np.hypot(r2 * 1.2, c2), size)
    nucleus = _edge(0.14 - np.hypot(r2 - 0.05, (c2 + 0.06) * 1.1), size)
    nucleoli = sum(_edge(0.025 - np.hypot(r2 - a, c2 - b), size) for a, b in ((0.02, -0.03), (0.09, -0.09)))
    texture = ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.5)
    body_texture = body * (1 + 0.25 * texture / texture.std())
    spots, vesicles = np.zeros((size, size)), np.zeros((size, size))
    inside = np.argwhere(body > 0.5)
    for a, b in inside[rng.integers(len(inside), size=40)]:
        spots[a, b] += rng.uniform(1, 8)
    for a, b in inside[rng.integers(len(inside), size=25)]:
        d = np.hypot(np.arange(size)[:, None] - a, np.arange(size)[None] - b)
        vesicles += rng.uniform(0.5, 1.5) * np.exp(-0.5 * (d / rng.uniform(1.2, 3.0)) ** 2)
    threads = np.zeros((size, size))
    for _ in range(7):
        t = np.linspace(0, 1, 4 * size)
        a, b = rng.uniform(-0.35, 0.35, (2, 4))
        path = [np.polyval(p, t * 2 - 1) for p in (a, b)]
        rows, cols = (((p + 0.5) * size).astype(int) for p in path)
        ok = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
        thread = np.zeros((size, size))
        thread[rows[ok], cols[ok]] = 1
        threads = np.maximum(threads, ndimage.gaussian_filter(thread, 0.7) * 2)
    threads *= body
    maps = [
        body_texture + 0.5 * nucleus + 0.05,
        body * 0.6 + nucleus + 1.5 * nucleoli + 0.05,
        body_texture * 0.8 + 0.2 + vesicles,
        0.05 + 0.1 * body + 2 * vesicles,
        0.15 + 0.2 * body + threads,
        0.2 + 0.1 * body + ndimage.gaussian_filter(spots, 0.6),
        0.3 + 0.3 * nucleus + 0.05 * body,
    ]
    return _normalised([*maps[: lines - 1], np.ones((size, size))] if lines > 1 else maps[:1])


def rock(rng: np.random.Generator, size: int = 128, lines: int = 8) -> Rates:
    """Return a thin section: angular mineral phases with zoning, cracks and accessory grains; last line flat."""
    n = 60
    points = rng.uniform(0, size, (n, 2))
    r, c = np.mgrid[0:size, 0:size]
    stretch = rng.uniform(0.6, 1.6, n)
    d = np.stack([np.abs(r - p[0]) * s + np.abs(c - p[1]) / s for p, s in zip(points, stretch, strict=True)])
    order = np.argsort(d, axis=0)
    label, gap = order[0], np.take_along_axis(d, order[1:2], 0)[0] - np.take_along_axis(d, order[:1], 0)[0]
    crack = np.exp(-((gap / 1.2) ** 2))
    phase = rng.integers(5, size=n)[label]
    zoning = np.take_along_axis(d, order[:1], 0)[0] / size
    accessory = np.zeros((size, size))
    for a, b in rng.integers(3, size - 3, (25, 2)):
        accessory[a : a + rng.integers(1, 4), b : b + rng.integers(1, 4)] = rng.uniform(1, 6)
    maps = []
    for _ in range(max(lines - 1, 1)):
        table = np.exp(rng.normal(0, 1.2, 5))
        image = table[phase] * (1 + rng.uniform(-2, 2) * zoning) * (1 - 0.7 * crack)
        maps.append(np.clip(image, 0.02, None) + (accessory if rng.random() < 0.3 else 0))
    return _normalised([*maps, np.ones((size, size))] if lines > 1 else maps)


PHANTOMS: dict[str, Callable[[np.random.Generator, int, int], Rates]] = {"star": star, "cell": cell, "rock": rock}


def expose(rng: np.random.Generator, rates: Rates, counts: float, detectors: int) -> tuple[NDArray[np.uint32], Rates]:
    """Draw Poisson counts (detector, line, row, col); return them and the true summed rates.

    ``counts`` is the mean per pixel and line of the detector sum; gains are spread over 0.7 to 1.3.
    """
    gains = np.linspace(0.7, 1.3, detectors) if detectors > 1 else np.ones(1)
    gains = rng.permutation(gains / gains.sum())
    true = rates * counts
    return rng.poisson(gains[:, None, None, None] * true).astype(np.uint32), true


def _edge(distance: Rates, size: int) -> Rates:
    return 1 / (1 + np.exp(np.clip(-distance * size / 0.6, -40, 40)))


def _normalised(maps: list[Rates]) -> Rates:
    return np.stack([m / m.mean() for m in maps])
