"""What the maps of a stack (tomography, time series) hand on: each starts with the weights of the one before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from quietbeam.core.model.types import RunInfo
from quietbeam_models.network import Denoiser

from .job import LiveRun

_KEPT = 4
"""Stacks whose weights are kept in memory."""


class StackWeights:
    """The newest weights of the stacks that this worker has in hand."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, Denoiser]] = OrderedDict()

    def before(self, info: RunInfo, live: Iterable[LiveRun]) -> Denoiser | None:
        """Return the weights of the last map before this one, also while it is still worked on; None for others."""
        stack, number = info.stack
        if not stack:
            return None
        for run in live:
            self.keep(run)
        there = self._kept.get(stack)
        return there[1] if there is not None and there[0] < number else None

    def keep(self, run: LiveRun) -> None:
        """Remember what a map has learned, unless a later one of its stack has."""
        stack, number = run.info.stack
        learned = run.learned
        if not stack or learned is None or self._kept.get(stack, (-1,))[0] > number:
            return
        self._kept[stack] = number, learned
        self._kept.move_to_end(stack)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
