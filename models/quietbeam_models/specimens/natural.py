"""Structures that grow: cells, grains, textures, fibres, particles, strata; (size, size) float32 of about 0..1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, spatial

Image = NDArray[np.float32]


def grid(size: int) -> tuple[Image, Image]:
    """Return row and column coordinates in 0..1."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    rows, cols = np.meshgrid(axis, axis, indexing="ij")
    return rows.astype(np.float32), cols.astype(np.float32)


def unit(image: NDArray[np.floating]) -> Image:
    """Scale to 0..1."""
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(high - low, 1e-9)).astype(np.float32)


def random_field(rng: np.random.Generator, size: int, power: float, anisotropy: float = 1.0) -> Image:
    """Return a Gaussian random field of zero mean and unit variance, spectrum ``1 / f**power``."""
    fr = fft.fftfreq(size)[:, None] * size
    fc = fft.rfftfreq(size)[None, :] * size
    angle = rng.uniform(0, np.pi)
    u, v = fr * np.cos(angle) + fc * np.sin(angle), -fr * np.sin(angle) + fc * np.cos(angle)
    radius = np.sqrt(u**2 * anisotropy + v**2 / anisotropy)
    radius[0, 0] = 1.0
    noise = rng.standard_normal((size, size)).astype(np.float32)
    field = fft.irfft2(fft.rfft2(noise) / radius ** (power / 2), s=(size, size))
    return ((field - field.mean()) / (field.std() + 1e-9)).astype(np.float32)


def smooth_field(rng: np.random.Generator, size: int) -> Image:
    """Return a cloud: from soft gradients to rough texture."""
    field = random_field(rng, size, rng.uniform(1.5, 5.0), rng.choice([1.0, 1.0, 3.0, 8.0]))
    if rng.random() < 0.3:
        return np.exp(field * rng.uniform(0.3, 1.2)).astype(np.float32) / 4
    return unit(field)


def islands(rng: np.random.Generator, size: int) -> Image:
    """Return a thresholded field: phases with sharp or soft borders."""
    field = random_field(rng, size, rng.uniform(2.0, 5.0), rng.choice([1.0, 1.0, 4.0]))
    level = rng.normal(0.3, 0.7)
    softness = rng.choice([0.02, 0.1, 0.3])
    return (1 / (1 + np.exp(-np.clip((field - level) / softness, -30, 30)))).astype(np.float32)


def gradient(rng: np.random.Generator, size: int) -> Image:
    """Return a ramp, a bowl or a shadow."""
    rows, cols = grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = unit(rows * np.cos(angle) + cols * np.sin(angle))
    kind = rng.integers(3)
    if kind == 0:
        return ramp ** np.float32(rng.uniform(0.5, 3))
    if kind == 1:
        r0, c0 = rng.uniform(-0.2, 1.2, 2)
        width = rng.uniform(0.1, 0.7)
        return np.exp(-((rows - r0) ** 2 + (cols - c0) ** 2) / (2 * width**2)).astype(np.float32)
    return (0.5 + 0.5 * np.tanh((ramp - rng.uniform(0.2, 0.8)) / rng.uniform(0.01, 0.3))).astype(np.float32)


def blob(rng: np.random.Generator, size: int, radius: float, roughness: float = 0.2) -> Image:
    """Return a wobbly filled outline with a softness of its own; ``radius`` in units of the image."""
    rows, cols = grid(size)
    r0, c0 = rng.uniform(0.1, 0.9, 2)
    angle = np.arctan2(rows - r0, cols - c0)
    aspect = rng.uniform(1.0, 1.8)
    turn = rng.uniform(0, np.pi)
    u = (rows - r0) * np.cos(turn) + (cols - c0) * np.sin(turn)
    v = -(rows - r0) * np.sin(turn) + (cols - c0) * np.cos(turn)
    distance = np.sqrt(u**2 * aspect + v**2 / aspect)
    outline = np.ones_like(angle)
    for k in range(1, 7):
        outline += roughness / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 6.3))
    soft = rng.choice([0.4, 1.0, 3.0]) / size
    return (1 / (1 + np.exp(np.clip((distance - radius * outline) / soft, -30, 30)))).astype(np.float32)


def cell(rng: np.random.Generator, size: int) -> Image:
    """Return cells: body with texture, or shells."""
    out = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 4)):
        body = blob(rng, size, rng.uniform(0.12, 0.45))
        if rng.random() < 0.3:
            body = np.clip(body - ndimage.gaussian_filter(body, rng.uniform(1, 4)), 0, None) * 2
        texture = 1 + rng.uniform(0, 0.5) * random_field(rng, size, rng.uniform(2, 4))
        out = np.maximum(out, body * np.clip(texture, 0.05, None) * rng.uniform(0.4, 1))
    return out


def grains(rng: np.random.Generator, size: int) -> Image:
    """Return Voronoi grains of constant value, or the veins between them."""
    n = int(np.exp(rng.uniform(np.log(6), np.log(250))))
    points = rng.uniform(-0.1, 1.1, (n, 2))
    rows, cols = grid(size)
    warp = rng.choice([0.0, 0.02, 0.06])
    if warp:
        rows = rows + warp * random_field(rng, size, 4)
        cols = cols + warp * random_field(rng, size, 4)
    tree = spatial.cKDTree(points)
    distance, index = tree.query(np.stack([rows.ravel(), cols.ravel()], 1), k=2)
    if rng.random() < 0.25:
        width = rng.uniform(0.3, 2.0) / size
        return np.exp(-((np.diff(distance, axis=1)[:, 0] / width) ** 2)).reshape(size, size).astype(np.float32)
    levels = rng.choice([2, 3, 5, n])
    values = rng.integers(levels, size=n) / max(levels - 1, 1)
    if rng.random() < 0.3:
        values = np.where(rng.random(n) < 0.25, 1.0, 0.02) * rng.uniform(0.5, 1, n)
    return values[index[:, 0]].reshape(size, size).astype(np.float32)


def stamp(out: Image, row: float, col: float, reach: float, values: object) -> None:
    """Add ``values(rows, cols)`` (offsets in pixels) to ``out`` around (row, col)."""
    a, b = max(int(row - reach), 0), min(int(row + reach) + 2, out.shape[0])
    c, d = max(int(col - reach), 0), min(int(col + reach) + 2, out.shape[1])
    if a < b and c < d:
        r = np.arange(a, b, dtype=np.float32)[:, None] - np.float32(row)
        q = np.arange(c, d, dtype=np.float32)[None, :] - np.float32(col)
        out[a:b, c:d] += values(r, q)  # type: ignore[operator]


def particles(rng: np.random.Generator, size: int) -> Image:
    """Return round or elongated particles of power-law size and brightness."""
    out = np.zeros((size, size), np.float32)
    n = int(np.exp(rng.uniform(np.log(3), np.log(300))))
    smallest, soft = rng.uniform(0.5, 3.0), rng.choice([0.3, 0.7, 1.5])
    gaussian = rng.random() < 0.4
    for _ in range(n):
        radius = min(smallest * rng.pareto(1.5) + smallest, size / 6)
        height = rng.uniform(0.2, 1) if rng.random() < 0.7 else min(rng.pareto(1.5), 20.0)
        aspect, turn = rng.uniform(1, 2), rng.uniform(0, np.pi)
        co, si = np.float32(np.cos(turn)), np.float32(np.sin(turn))

        def shape(r, q, co=co, si=si, aspect=aspect, radius=radius, height=height):  # type: ignore[no-untyped-def]
            d = np.sqrt((r * co + q * si) ** 2 * aspect + (q * co - r * si) ** 2 / aspect)
            if gaussian:
                return height * np.exp(-0.5 * (d / (0.6 * radius)) ** 2)
            return height / (1 + np.exp(np.clip((d - radius) / soft, -30, 30)))

        stamp(out, float(rng.uniform(0, size)), float(rng.uniform(0, size)), 3 * radius + 4, shape)
    return out


def fibres(rng: np.random.Generator, size: int) -> Image:
    """Return curved filaments of 0.5 to 4 pixels width."""
    out = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 14)):
        width, height = rng.uniform(0.45, 2.0) * rng.choice([1, 1, 2]), rng.uniform(0.3, 1)
        steps = int(size * rng.uniform(0.5, 2.5) * 2)
        bend = rng.choice([0.002, 0.01, 0.04])
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(ndimage.gaussian_filter1d(rng.normal(0, bend * 8, steps), 8))
        start = rng.uniform(0, size, 2)
        path_r, path_c = start[0] + np.cumsum(np.sin(angle)) * 0.5, start[1] + np.cumsum(np.cos(angle)) * 0.5
        inside = (path_r >= 0) & (path_r < size) & (path_c >= 0) & (path_c < size)
        if not inside.any():
            continue
        trace = np.ones((size, size), bool)
        trace[path_r[inside].astype(int), path_c[inside].astype(int)] = False
        if rng.random() < 0.5:
            # distances to the true, sub-pixel path near it
            tree = spatial.cKDTree(np.stack([path_r, path_c], 1))
            near = np.argwhere(ndimage.binary_dilation(~trace, iterations=int(3 * width) + 1))
            distance, _ = tree.query(near + 0.5)
            line = np.zeros_like(out)
            line[near[:, 0], near[:, 1]] = np.exp(-0.5 * (distance / width) ** 2)
        else:
            line = np.exp(-0.5 * (ndimage.distance_transform_edt(trace) / width) ** 2)
        out = np.maximum(out, height * line)
    return out.astype(np.float32)


def strata(rng: np.random.Generator, size: int) -> Image:
    """Return warped layers."""
    rows, cols = grid(size)
    angle = rng.uniform(0, np.pi)
    depth = rows * np.cos(angle) + cols * np.sin(angle) + rng.uniform(0, 0.1) * random_field(rng, size, 4)
    n = rng.integers(2, 30)
    edges = np.sort(rng.uniform(depth.min(), depth.max(), n))
    values = rng.random(n + 1).astype(np.float32)
    return values[np.searchsorted(edges, depth.ravel())].reshape(size, size)


def spots(rng: np.random.Generator, size: int) -> Image:
    """Return few single hot pixels and small spots, up to 100 times the rest."""
    out = np.zeros((size, size), np.float32)
    for _ in range(int(np.exp(rng.uniform(np.log(2), np.log(60))))):
        height = np.float32(np.exp(rng.uniform(-1.5, 2.0)))
        row, col = rng.uniform(0, size, 2)
        if rng.random() < 0.5:
            out[int(row), int(col)] += height
        else:
            width = rng.uniform(0.5, 1.6)
            stamp(out, row, col, 6, lambda r, q, h=height, w=width: h * np.exp(-0.5 * (r**2 + q**2) / w**2))
    return out


def speckle(rng: np.random.Generator, size: int) -> Image:
    """Return grains of one to three pixels: fine-grained rock, powder, single-pixel texture."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), rng.uniform(0.25, 1.2))
    field /= field.std()
    if rng.random() < 0.5:
        return np.exp(field * rng.uniform(0.3, 1.5)).astype(np.float32) / 4
    return (1 / (1 + np.exp(-np.clip((field - rng.normal(0.5, 0.8)) * rng.choice([2, 8]), -30, 30)))).astype(np.float32)
