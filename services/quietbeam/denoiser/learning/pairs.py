"""Noise2Noise pairs of a run: two sets of photons of the same pixels with independent noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.types import BoolArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.holdout import held_detectors
from ..data.sums import Sums

Window = tuple[slice, slice]


class Pairs(Protocol):
    """Source of the examples for fine-tuning."""

    @property
    def sums(self) -> Sums:
        """Everything that may train."""

    @property
    def square_share(self) -> float:
        """Share of the squared error in the loss; the rest is Poisson deviance, which fitted areas do not have."""

    def split(self, lines: NDArray[np.intp], at: Window, rng: np.random.Generator) -> tuple[Sums, Sums]:
        """Return input and target of a patch of some lines, each (line, row, col)."""
        ...


@dataclass(frozen=True, slots=True)
class ThinnedPairs:
    """Photon counts, thinned anew every time: virtual detectors, each with 50 to 85 % of the counts as the input."""

    sums: Sums
    square_share: float = 0.5

    def split(self, lines: NDArray[np.intp], at: Window, rng: np.random.Generator) -> tuple[Sums, Sums]:
        """Return input and target."""
        counts, exposure = self.sums.counts[:, *at][lines], self.sums.exposure[:, *at][lines]
        share = float(rng.uniform(0.5, 0.85))
        seen = rng.binomial(np.clip(counts, 0, None).astype(np.int64), share).astype(np.float32)
        return Sums(seen, exposure * share), Sums(counts - seen, exposure * (1 - share))


class DetectorPairs:
    """Fitted areas cannot be thinned: detectors are drawn into two groups, as effective counts.

    Parameters
    ----------
    data
        Areas of at least two detectors.
    noise
        Their noise, which makes effective counts of areas.
    train
        (detector,) bool: the detectors that may train.
    """

    square_share = 1.0

    def __init__(self, data: RunCounts, noise: NoiseModel, train: BoolArray) -> None:
        self._data, self._noise = data, noise
        self._train = np.flatnonzero(train)
        self.sums = noise.to_counts(data.sums("all", detectors=train))

    def split(self, lines: NDArray[np.intp], at: Window, rng: np.random.Generator) -> tuple[Sums, Sums]:
        """Return input and target; the target keeps its negative values, so that its mean is right."""
        order = rng.permutation(self._train)
        cut = int(rng.integers(1, order.size)) if order.size > 2 else 1
        groups = []
        for detectors, clip in ((order[cut:], True), (order[:cut], False)):
            mask = np.isin(np.arange(len(self._data.detectors)), detectors)
            spans = [(int(s.start), int(s.stop)) for s in at]
            sums = self._data.sums("all", spans[0], mask, spans[1])
            effective = self._noise.to_counts(sums, clip=clip)
            groups.append(Sums(effective.counts[lines], effective.exposure[lines]))
        return groups[0], groups[1]


def training_split(data: RunCounts, noise: NoiseModel) -> tuple[Pairs, Sums] | None:
    """Return what trains, and what is held out of it for ever; None where nothing can be held out.

    Of fitted areas whole detectors are held out, and at least two others must train.
    """
    if data.kind == "counts":
        return ThinnedPairs(data.sums("train")), data.sums("held")
    usable = data.gains.usable
    held = next(iter(held_detectors(usable)), usable)
    train = usable & ~held
    if train.sum() < 2:
        return None
    return DetectorPairs(data, noise, train), noise.to_counts(data.sums("all", detectors=held))
