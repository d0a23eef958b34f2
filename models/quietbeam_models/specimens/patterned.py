"""Structures that are made: stars, bars, circuits, polygons, boards, tiles, print; (size, size) float32 in 0..1."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from quietbeam_models.specimens.natural import Image, grid


def spokes(rng: np.random.Generator, size: int) -> Image:
    """Return a spoke target, its centre anywhere, with or without rings cut out."""
    rows, cols = grid(size)
    r0, c0 = rng.uniform(0.1, 0.9, 2)
    r, c = rows - r0, cols - c0
    radius, angle = np.hypot(r, c), np.arctan2(r, c)
    n = rng.integers(5, 40)
    phase = np.sin(n * angle + rng.uniform(0, 6.3))
    # soft edge of about one pixel at every radius
    sharp = np.maximum(radius * size / n, 0.3) * rng.uniform(0.7, 2.0)
    wave = 0.5 + 0.5 * np.clip(phase * sharp, -1, 1)
    inner, outer = rng.uniform(0, 0.05), rng.uniform(0.25, 0.9)
    wave = wave * (radius > inner) * (radius < outer)
    if rng.random() < 0.5:
        for cut in rng.uniform(inner, outer, rng.integers(1, 4)):
            wave = wave * (np.abs(radius - cut) > rng.uniform(0.004, 0.02))
    return wave.astype(np.float32)


def bars(rng: np.random.Generator, size: int) -> Image:
    """Return gratings of several periods in blocks, as on a resolution chart."""
    out = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 10)):
        height, width = rng.integers(8, max(size // 2, 9), 2)
        a, b = rng.integers(-4, size - 6, 2)
        a0, b0 = max(a, 0), max(b, 0)
        rr, cc = np.mgrid[a0 : min(a + height, size), b0 : min(b + width, size)].astype(np.float32)
        angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
        period = np.exp(rng.uniform(np.log(2.2), np.log(24)))
        wave = np.sin(2 * np.pi * (rr * np.cos(angle) + cc * np.sin(angle)) / period + rng.uniform(0, 6.3))
        wave = 0.5 + 0.5 * np.clip(wave * period / 3, -1, 1)
        out[a0 : a0 + rr.shape[0], b0 : b0 + rr.shape[1]] = wave
    return out


def circuit(rng: np.random.Generator, size: int) -> Image:
    """Return straight wires and pads."""
    out = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(3, 25)):
        r, c = rng.integers(size, size=2)
        for _ in range(rng.integers(1, 5)):
            width = int(rng.choice([1, 1, 2, 3, 5]))
            reach = int(rng.integers(4, size // 2 + 5))
            if rng.random() < 0.5:
                out[r : r + width, c : c + reach] = 1
                c = min(c + reach, size - 1)
            else:
                out[r : r + reach, c : c + width] = 1
                r = min(r + reach, size - 1)
        if rng.random() < 0.4:
            h, w = rng.integers(3, 14, 2)
            out[r : r + h, c : c + w] = rng.uniform(0.3, 1)
    if rng.random() < 0.4:
        out = ndimage.rotate(out, rng.uniform(0, 90), reshape=False, order=1, mode="reflect")
    return out


def polygons(rng: np.random.Generator, size: int) -> Image:
    """Return overlapping convex shards."""
    rows, cols = grid(size)
    out = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 12)):
        r0, c0 = rng.uniform(0, 1, 2)
        radius = np.exp(rng.uniform(np.log(0.03), np.log(0.4)))
        inside = np.full((size, size), np.inf, np.float32)
        for angle in rng.uniform(0, 2 * np.pi, rng.integers(3, 8)):
            edge = radius * rng.uniform(0.5, 1) - (rows - r0) * np.sin(angle) - (cols - c0) * np.cos(angle)
            inside = np.minimum(inside, edge)
        mask = np.clip(inside * size / rng.choice([1.0, 1.0, 3.0]) + 0.5, 0, 1)
        out = out * (1 - mask) + mask * rng.uniform(0, 1)
    return out.astype(np.float32)


def rings(rng: np.random.Generator, size: int) -> Image:
    """Return concentric rings, even or zone-plate like."""
    rows, cols = grid(size)
    r0, c0 = rng.uniform(-0.2, 1.2, 2)
    radius = np.hypot(rows - r0, cols - c0)
    n = rng.uniform(3, size / 6)
    phase = radius * n if rng.random() < 0.6 else radius**2 * n * 0.7
    return (0.5 + 0.5 * np.clip(np.sin(2 * np.pi * phase) * rng.uniform(1, 4), -1, 1)).astype(np.float32)


def board(rng: np.random.Generator, size: int) -> Image:
    """Return blocks of random values on a regular grid."""
    pitch = int(rng.integers(2, 24))
    n = size // pitch + 2
    levels = rng.choice([2, 2, 4, 100])
    values = np.round(rng.random((n, n)) * (levels - 1)) / (levels - 1)
    image = np.kron(values, np.ones((pitch, pitch)))
    a, b = rng.integers(pitch, size=2)
    return image[a : a + size, b : b + size].astype(np.float32)


def dots(rng: np.random.Generator, size: int) -> Image:
    """Return an array of equal dots or squares, some missing."""
    out = np.zeros((size, size), np.float32)
    pitch = int(rng.integers(5, 24))
    radius = rng.uniform(0.6, pitch / 2.5)
    r, c = np.mgrid[0:size, 0:size].astype(np.float32)
    r0, c0 = rng.uniform(0, pitch, 2)
    rr, cc = (r - r0 + pitch / 2) % pitch - pitch / 2, (c - c0 + pitch / 2) % pitch - pitch / 2
    d = np.hypot(rr, cc) if rng.random() < 0.6 else np.maximum(np.abs(rr), np.abs(cc))
    out = np.clip(radius - d + 0.5, 0, 1)
    n = size // pitch + 3
    keep = rng.random((n, n)) > rng.choice([0.0, 0.3, 0.7])
    ir, ic = ((r - r0 + pitch / 2) // pitch).astype(int) + 1, ((c - c0 + pitch / 2) // pitch).astype(int) + 1
    return (out * keep[ir, ic]).astype(np.float32)


def tiles(rng: np.random.Generator, size: int) -> Image:
    """Return a small motif that returns all over the map: stripes, checks, bricks, meshes, weaves."""
    kind = rng.random()
    if kind < 0.2:
        motif = np.array([[0.0, 1.0], [1.0, 0.0]])
    elif kind < 0.45:  # stripes
        motif = (np.arange(n := int(rng.integers(2, 16))) < rng.integers(1, n))[None].astype(float)
    elif kind < 0.6:  # a mesh, or its holes
        height, width = rng.integers(3, 16, 2)
        motif = np.zeros((height, width))
        motif[: rng.integers(1, height)] = 1
        motif[:, : rng.integers(1, width)] = 1
    else:
        motif = rng.random(rng.integers(2, 13, 2))
        motif = (motif < rng.uniform(0.2, 0.8)).astype(float) if rng.random() < 0.7 else motif
    motif = np.kron(motif.T if rng.random() < 0.5 else motif, np.ones((int(rng.choice([1, 1, 2, 3, 5])),) * 2))
    height, width = motif.shape
    out = np.tile(motif, (2 * size // height + 2, 2 * size // width + 2))
    if rng.random() < 0.25:  # bricks: every second row of motifs is shifted
        rows = (np.arange(len(out)) // height) % 2 == 1
        out[rows] = np.roll(out[rows], width // 2, 1)
    if rng.random() < 0.3:
        out = ndimage.rotate(out, rng.uniform(0, 90), reshape=False, order=1, mode="wrap")
    a, b = rng.integers(size // 2, size, 2)
    return out[a : a + size, b : b + size].clip(0, 1).astype(np.float32)


def glyphs(rng: np.random.Generator, size: int) -> Image:
    """Return rows of signs from a small alphabet, as in print, papyri and marks on wafers."""
    height, width = int(rng.integers(5, 15)), int(rng.integers(4, 11))
    alphabet = np.zeros((rng.integers(3, 25), height, width), np.float32)
    for sign in alphabet:
        for _ in range(rng.integers(2, 5)):
            (top, bottom), (left, right) = rng.integers(height, size=2), rng.integers(width, size=2)
            if rng.random() < 0.6:  # upright or level
                top, right = (top, left) if rng.random() < 0.5 else (bottom, right)
            along = np.linspace(0, 1, 3 * height)
            rows, cols = top + (bottom - top) * along, left + (right - left) * along
            sign[np.rint(rows).astype(int), np.rint(cols).astype(int)] = 1
    if rng.random() < 0.4:
        alphabet = np.maximum(alphabet, np.roll(alphabet, 1, 2))
    line, step = height + int(rng.integers(1, 6)), width + int(rng.integers(1, 3))
    out = np.zeros((size + line, size + step), np.float32)
    for r in range(0, size, line):
        for c in range(0, size, step):
            if rng.random() < 0.85:
                out[r : r + height, c : c + width] = alphabet[rng.integers(len(alphabet))]
    if rng.random() < 0.3:
        out = ndimage.rotate(out, rng.uniform(0, 90), reshape=False, order=1, mode="reflect")
    return out[:size, :size].copy()
