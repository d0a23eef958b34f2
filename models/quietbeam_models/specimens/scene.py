"""A scene: one specimen seen in many lines, from the same structures (correlated) to each its own (independent)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam_models.specimens import natural, patterned
from quietbeam_models.specimens.natural import Image

Maker = Callable[[np.random.Generator, int], Image]

MAKERS: tuple[tuple[Maker, float], ...] = (
    (natural.cell, 3.0),
    (natural.grains, 2.0),
    (natural.particles, 2.0),
    (natural.fibres, 2.0),
    (natural.smooth_field, 1.5),
    (natural.islands, 1.5),
    (natural.gradient, 1.0),
    (natural.strata, 1.0),
    (natural.spots, 1.0),
    (natural.speckle, 1.0),
    (patterned.spokes, 1.5),
    (patterned.bars, 1.2),
    (patterned.circuit, 1.5),
    (patterned.polygons, 1.0),
    (patterned.rings, 0.5),
    (patterned.board, 1.0),
    (patterned.dots, 0.8),
    (patterned.tiles, 2.0),
    (patterned.glyphs, 1.0),
)
_WEIGHTS = np.array([w for _, w in MAKERS]) / sum(w for _, w in MAKERS)


@dataclass(frozen=True, slots=True)
class Scene:
    """Clean maps of one specimen.

    Attributes
    ----------
    rates
        (line, row, col) float32, each line of mean 1.
    strength
        Mean count of each line relative to the scene's, (line,).
    """

    rates: NDArray[np.float32]
    strength: NDArray[np.float32]


def make_structure(rng: np.random.Generator, size: int) -> Image:
    """Draw one structure of a random kind."""
    maker = MAKERS[rng.choice(len(MAKERS), p=_WEIGHTS)][0]
    image = maker(rng, size)
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0.4, 1.5))
    return np.clip(image, 0, 50).astype(np.float32)


def make_components(rng: np.random.Generator, size: int) -> list[Image]:
    """Draw the structures of one specimen; some live inside others."""
    parts = [make_structure(rng, size) for _ in range(rng.integers(2, 6))]
    if rng.random() < 0.6:
        outer, inner = rng.choice(len(parts), 2, replace=False)
        parts.append(parts[outer] * parts[inner])
    if rng.random() < 0.3:
        parts.append(np.clip(parts[0] - parts[-1], 0, None))
    return [p / max(float(p.mean()), 0.02) for p in parts]


def make_line(rng: np.random.Generator, parts: list[Image], shared: int) -> Image:
    """Mix one line's map from structures; ``shared`` of them are open to every line."""
    size = parts[0].shape[0]
    kind = rng.random()
    background = np.float32(np.exp(rng.uniform(np.log(2e-3), np.log(1.0))))
    if kind < 0.07:
        return np.full((size, size), 1.0, np.float32)
    if kind < 0.12:
        return background + np.float32(0.3) * natural.spots(rng, size) / background
    if kind < 0.17:
        return background + natural.smooth_field(rng, size)
    pool = parts[:shared] if shared else [make_structure(rng, size)]
    image = np.full((size, size), background, np.float32)
    for i in rng.permutation(len(pool))[: rng.integers(1, 4)]:
        image += pool[i] * np.float32(rng.choice([1.0, 0.3, 0.1]) * rng.uniform(0.5, 1.5))
    if rng.random() < 0.2:
        image = np.clip(image.max() * 0.7 - image, background, None)
    if rng.random() < 0.15:
        image = image * (0.3 + natural.gradient(rng, size))
    if rng.random() < 0.25:  # what must survive on top of anything else: filaments and hot pixels
        detail = natural.fibres(rng, size) if rng.random() < 0.5 else natural.spots(rng, size)
        image = image + detail * np.float32(image.mean() * np.exp(rng.uniform(np.log(0.1), np.log(10))))
    return image


def make_scene(rng: np.random.Generator, size: int = 160, lines: int = 10) -> Scene:
    """Draw a specimen.

    Parameters
    ----------
    size
        Rows and columns.
    lines
        Number of lines.
    """
    parts = make_components(rng, size)
    style = rng.random()
    rates = np.empty((lines, size, size), np.float32)
    for i in range(lines):
        if style < 0.35:  # strong correlation: few structures, everybody shares
            shared = min(2, len(parts))
        elif style < 0.85:
            shared = len(parts) if rng.random() < 0.85 else 0
        else:
            shared = 0
        image = np.clip(make_line(rng, parts, shared), 1e-5, None)
        if rng.random() < 0.1:  # what is shared is shared in a part of the map only
            here = natural.random_field(rng, size, rng.uniform(2, 4)) > rng.normal(0, 0.5)
            image = np.where(here, image, image.mean() if rng.random() < 0.7 else make_line(rng, parts, shared))
        rates[i] = image / image.mean()
    strength = np.exp(rng.normal(0, rng.choice([0.3, 1.0, 2.0]), lines)).astype(np.float32)
    return Scene(rates=rates, strength=strength)
