"""Endless training batches: specimens drawn by worker processes, patches cut and exposed on the training device."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from quietbeam_models.specimens import draw_exposure, make_scene

_SHAPES = ((64, 64), (64, 64), (64, 64), (48, 80), (32, 128), (96, 96), (128, 128), (128, 128), (16, 96), (24, 24))
_LINES = (1, 2, 3, 4, 6, 8, 12)
_LINE_ODDS = (0.18, 0.1, 0.07, 0.22, 0.13, 0.22, 0.08)

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """What a batch is made of.

    Attributes
    ----------
    pixels
        Line-pixels of a batch; fixes the number of patches in it.
    bank
        Specimens kept in the device's memory, 0.7 MB each; fresh ones replace the oldest, so the stream never ends.
    size, lines
        Pixels of a specimen in each direction, and its lines.
    workers
        Processes that draw specimens; 0: the training process draws one a batch.
    targets
        ``expectation``: the target is what disjoint detectors would count on average (Noise2Noise with the target's
        noise averaged out, same gradient in the mean, far less variance). ``counts``: the target is a Poisson draw.
    """

    pixels: int = 98_304
    bank: int = 250
    size: int = 160
    lines: int = 12
    workers: int = 0
    targets: str = "expectation"
    seed: int = 0


class Specimens(IterableDataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    """Endless specimens: rates (line, row, col) float16 of mean 1, strength (line,), exposure (row, col) float16."""

    def __init__(self, config: PatchConfig) -> None:
        self.config = config

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        info = get_worker_info()
        rng = np.random.default_rng([self.config.seed, 0 if info is None else info.id + 1])
        size = self.config.size
        while True:
            scene = make_scene(rng, size, self.config.lines)
            yield scene.rates.astype(np.float16), scene.strength, draw_exposure(rng, size, size).astype(np.float16)


class Bank:
    """Specimens in the memory of the training device, and the patches cut from them.

    :meth:`draw` copies nothing from the host or to it, so that it may be part of a CUDA graph.
    """

    def __init__(self, config: PatchConfig, device: torch.device | str = "cpu") -> None:
        size, lines = config.size, config.lines
        self.config = config
        self.rates = torch.empty((config.bank, lines, size, size), dtype=torch.float16, device=device)
        self.strength = torch.empty((config.bank, lines), device=device)
        self.exposure = torch.empty((config.bank, size, size), dtype=torch.float16, device=device)
        self._added = 0
        self._filled = torch.zeros((), device=device)

    def __len__(self) -> int:
        return min(self._added, len(self.rates))

    def add(self, pack: list[Tensor]) -> None:
        """Put a pack of specimens, stacked over specimens, in the place of the oldest."""
        place = (torch.arange(len(pack[0])) + self._added) % len(self.rates)
        for stored, new in zip((self.rates, self.strength, self.exposure), pack, strict=True):
            stored[place.to(stored.device)] = new.to(stored.device)
        self._added += len(place)
        self._filled.fill_(len(self))

    def draw(self, lines: int, rows: int, cols: int) -> Batch:
        """Cut patches, turn them, give every line a dose and count photons.

        Returns ``counts``, ``target``, ``rate`` and ``exposure``, each (batch, line, row, col). In a quarter of the
        patches some lines are strangers: lines of another specimen, with which no structure is shared. A tenth of the
        lines has single hot pixels.
        """
        config, device = self.config, self.rates.device
        n = max(1, round(config.pixels / (lines * rows * cols)))

        def chance(*size: int) -> Tensor:
            return torch.rand(size, device=device)

        def whole(below: Tensor | int, *size: int) -> Tensor:
            return (chance(*size) * below).long()

        specimen, other = whole(self._filled, n, 1), whole(self._filled, n, 1)
        line = chance(n, config.lines).argsort(1)[:, :lines]
        strange = (chance(n, lines) < 0.2 + 0.3 * (chance(n, 1) < 0.5)) & (chance(n, 1) < 0.25)
        source = torch.where(strange, other, specimen) if lines > 1 else specimen
        r, c = _windows(rows, cols, config.size, n, whole)
        rates = self.rates[source[:, :, None, None], line[:, :, None, None], r[:, None], c[:, None]].float()
        rates = rates.masked_fill((chance(n, lines) < 0.05)[:, :, None, None], 1.0)  # flat fields
        dose = _doses(chance(n, 1), chance(n, 1)) * self.strength[specimen, line]
        rates = (rates * dose[:, :, None, None]).clamp(1e-6, 3e6)
        # in a tenth of the lines single hot pixels that raw just proves, 4 to 16 sigma high
        hot = (chance(n, lines, rows, cols) < 1e-3) & (chance(n, lines, 1, 1) < 0.1)
        rates = rates + hot * (4.0 + 12.0 * chance(n, lines, rows, cols)) * torch.sqrt(rates + 0.5)
        exposure = self.exposure[whole(self._filled, n, 1)[:, :, None], r, c].float()[:, None]
        empty = (exposure > 0).float().mean((-2, -1), keepdim=True) < 0.2
        exposure = exposure.masked_fill(empty, 1.0).expand_as(rates).contiguous()
        expected = rates * exposure
        counts = torch.poisson(expected)
        target = torch.poisson(expected) if config.targets == "counts" else expected
        return {"counts": counts, "target": target, "rate": rates, "exposure": exposure}


def _doses(which: Tensor, where: Tensor) -> Tensor:
    """Return mean counts from two uniform draws: mostly 0.05 to 500, with tails from 0.01 to 1e5."""
    usual, rest = (which < 0.74).float(), (which >= 0.92).float()
    high = 1.0 - usual - rest
    low = usual * math.log(0.05) + high * math.log(100.0) + rest * math.log(0.01)
    top = usual * math.log(500.0) + (1.0 - usual) * math.log(1e5)
    return torch.exp(low + (top - low) * where)


def _windows(rows: int, cols: int, size: int, n: int, whole: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Return row and column indices, each (n, row, col), of windows in random places, flipped and turned at random."""
    turn = whole(2, n, 1, 1).bool()
    i = torch.arange(rows, device=turn.device)[None, :, None]
    j = torch.arange(cols, device=turn.device)[None, None, :]
    i = torch.where(whole(2, n, 1, 1).bool(), rows - 1 - i, i).expand(n, rows, cols)
    j = torch.where(whole(2, n, 1, 1).bool(), cols - 1 - j, j).expand(n, rows, cols)
    r, c = torch.where(turn, j, i), torch.where(turn, i, j)
    height, width = rows + (cols - rows) * turn.long(), cols + (rows - cols) * turn.long()
    return r + whole(size - height + 1, n, 1, 1), c + whole(size - width + 1, n, 1, 1)


class Draws:
    """Endless (lines, rows, cols) of the batches to draw from ``bank``, which it keeps fresh meanwhile."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        bank, config = self.bank, self.bank.config
        rng = np.random.default_rng([config.seed, 77])
        for packs in self._packs():
            for pack in packs:
                bank.add(pack)
            if len(bank) >= min(16, config.bank):
                rows, cols = _SHAPES[rng.integers(len(_SHAPES))]
                yield int(rng.choice(_LINES, p=_LINE_ODDS)), rows, cols

    def _packs(self) -> Iterator[list[list[Tensor]]]:
        """Yield, for each batch, the packs of specimens that have come: never waits once the workers run."""
        workers = self.bank.config.workers
        loader = DataLoader(Specimens(self.bank.config), batch_size=8 if workers else 1, num_workers=workers)
        if not workers:
            for pack in loader:
                yield [pack]
        ready: queue.Queue[list[Tensor]] = queue.Queue(4 * workers)
        ended = threading.Event()

        def pump() -> None:
            for pack in loader:
                ready.put(pack)
                if ended.is_set():
                    return

        pumping = threading.Thread(target=pump, name="specimens", daemon=True)
        pumping.start()
        try:
            yield [ready.get() for _ in range(4 * workers)]
            while True:
                yield [ready.get_nowait() for _ in range(ready.qsize())]
        finally:
            ended.set()
            while pumping.is_alive():
                with contextlib.suppress(queue.Empty):
                    ready.get(timeout=0.1)


def validation_batches(seed: int, doses: tuple[float, ...], lines: int = 8, size: int = 96) -> list[Batch]:
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
