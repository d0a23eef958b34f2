"""Weights within a stack of maps (tomography, time series): each map starts with those of the map before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from quietbeam.core.model.types import RunInfo
from quietbeam_models.network import Denoiser

from .job import DenoiseJob

_STACKS = 4
"""Stacks whose weights stay in memory."""


class StackWeights:
    """The newest weights of the stacks that this worker denoises."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, tuple[int, Denoiser]] = OrderedDict()

    def before(self, info: RunInfo, jobs: Iterable[DenoiseJob]) -> Denoiser | None:
        """Return the weights of the last map before this one, finished or not; None where there is none."""
        stack, number = info.stack
        if not stack:
            return None
        for job in jobs:
            self.store(job)
        newest = self._newest.get(stack)
        return newest[1] if newest is not None and newest[0] < number else None

    def store(self, job: DenoiseJob) -> None:
        """Store what a map has learned, unless weights of a later map of its stack are stored."""
        stack, number = job.info.stack
        learned = job.learned
        if not stack or learned is None or self._newest.get(stack, (-1,))[0] > number:
            return
        self._newest[stack] = number, learned
        self._newest.move_to_end(stack)
        while len(self._newest) > _STACKS:
            self._newest.popitem(last=False)
