"""Endless training batches drawn from procedural specimens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from quietbeam_models.specimens import Scene, draw_exposure, make_scene

_SHAPES = ((64, 64), (64, 64), (64, 64), (48, 80), (32, 128), (96, 96), (128, 128), (16, 96), (24, 24))
_LINES = (1, 2, 3, 4, 6, 8, 12)
_LINE_ODDS = (0.1, 0.08, 0.07, 0.25, 0.15, 0.25, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """What a batch is made of.

    Attributes
    ----------
    pixels
        Line-pixels of a batch; fixes the number of specimens in it.
    bank
        Specimens kept in memory; one is replaced at every batch, so that the stream never ends.
    targets
        ``expectation``: the target is what disjoint detectors would count on average (Noise2Noise with the target's
        noise averaged out, same gradient in the mean, far less variance). ``counts``: the target is a Poisson draw.
    """

    pixels: int = 98_304
    bank: int = 250
    size: int = 160
    targets: str = "expectation"
    seed: int = 0


def draw_dose(rng: np.random.Generator) -> float:
    """Draw the mean count of a line: mostly 0.05 to 300, with tails from 0.01 to 1e5."""
    which = rng.random()
    low, high = (0.05, 300.0) if which < 0.77 else (100.0, 1e5) if which < 0.92 else (0.01, 1e5)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def turn(image: NDArray[np.float32], code: int) -> NDArray[np.float32]:
    """Apply one of the eight flips and turns to the last two axes."""
    image = image[..., ::-1, :] if code & 1 else image
    image = image[..., ::-1] if code & 2 else image
    return np.swapaxes(image, -1, -2) if code & 4 else image


def draw_patch(
    rng: np.random.Generator, scene: Scene, other: Scene, lines: int, rows: int, cols: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut a patch: rates (line, row, col) in counts and exposure (line, row, col)."""
    size = scene.rates.shape[-1]
    code = int(rng.integers(8))
    r, c = rng.integers(size - rows + 1), rng.integers(size - cols + 1)
    pick = rng.choice(scene.rates.shape[0], lines, replace=lines > scene.rates.shape[0])
    rates = turn(scene.rates, code)[pick, r : r + rows, c : c + cols].astype(np.float64)
    if lines > 1 and rng.random() < 0.25:  # strangers: lines of another specimen, shared structure none
        stranger = rng.random(lines) < rng.choice([0.2, 0.5])
        rates[stranger] = turn(other.rates, code)[pick[stranger] % other.rates.shape[0], r : r + rows, c : c + cols]
    flat = rng.random(lines) < 0.05
    rates[flat] = 1.0
    # judge the dose by the patch itself, so that an empty corner is a low-dose example
    rates *= (draw_dose(rng) * scene.strength[pick % scene.strength.size])[:, None, None]
    exposure = np.broadcast_to(draw_exposure(rng, rows, cols), rates.shape)
    return np.clip(rates, 1e-6, 3e6).astype(np.float32), exposure.astype(np.float32)


class PatchStream(IterableDataset[dict[str, Tensor]]):
    """Endless batches: ``counts``, ``target``, ``rate`` and ``exposure``, each (batch, line, row, col)."""

    def __init__(self, config: PatchConfig) -> None:
        self.config = config

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        info = get_worker_info()
        rng = np.random.default_rng([self.config.seed, 0 if info is None else info.id + 1])
        return self.batches(rng)

    def batches(self, rng: np.random.Generator) -> Iterator[dict[str, Tensor]]:
        """Yield batches for ever."""
        config = self.config
        bank = [make_scene(rng, config.size) for _ in range(min(16, config.bank))]
        while True:
            fresh = make_scene(rng, config.size)
            if len(bank) < config.bank:
                bank.append(fresh)
            else:
                bank[rng.integers(len(bank))] = fresh
            rows, cols = _SHAPES[rng.integers(len(_SHAPES))]
            lines = int(rng.choice(_LINES, p=_LINE_ODDS))
            batch = max(1, round(config.pixels / (lines * rows * cols)))
            pairs = []
            for _ in range(batch):
                scene, other = (bank[i] for i in rng.integers(len(bank), size=2))
                pairs.append(draw_patch(rng, scene, other, lines, rows, cols))
            rate, exposure = (np.stack(p) for p in zip(*pairs, strict=True))
            counts = rng.poisson(rate * exposure).astype(np.float32)
            target = rate * exposure
            if config.targets == "counts":
                target = rng.poisson(target).astype(np.float32)
            yield {
                "counts": torch.from_numpy(counts),
                "target": torch.from_numpy(target.astype(np.float32)),
                "rate": torch.from_numpy(rate),
                "exposure": torch.from_numpy(exposure),
            }


def validation_batches(seed: int, doses: tuple[float, ...], lines: int = 8, size: int = 96) -> list[dict[str, Tensor]]:
    """Draw a fixed validation set: unseen specimens, one batch of equal mean counts per dose."""
    rng = np.random.default_rng([seed, 987_654])
    out = []
    for dose in doses:
        rates = np.stack([make_scene(rng, size, lines).rates * np.float32(dose) for _ in range(4)])
        out.append(
            {
                "counts": torch.from_numpy(rng.poisson(rates).astype(np.float32)),
                "target": torch.from_numpy(rates),
                "rate": torch.from_numpy(rates),
                "exposure": torch.ones(rates.shape),
            }
        )
    return out
