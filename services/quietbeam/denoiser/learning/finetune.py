"""Fine-tuning on the run itself: Noise2Noise between random splits of the photons that are not held out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quietbeam_models.network import Denoiser, native_bf16
from quietbeam_models.training import DenoiserTraining, fine_tuning_optimizer, follow_norm, gradient_limit

from ..data.sums import Sums
from ..estimators.networks import fresh_copy, yield_between_layers
from ..options import never
from .held_out_score import HeldOutScore
from .pairs import Pairs
from .patch_sampler import PatchSampler, trainable_lines

CHECK_STEPS = 20
"""Steps between two checks on held-out counts."""
LEARNING_RATE = 1.5e-4
TRAINED_PARTS = ("up", "decoder", "leave", "refine", "head")
"""Parts of the network that learn. The encoder stays: a third less time per step, and noise is learned later."""
PATIENCE = 5
"""A burst ends after so many checks in a row without a better score."""
_WARMUP_STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstPlan:
    """When a burst ends, and what runs meanwhile.

    Attributes
    ----------
    budget_s
        Longest duration [s].
    steps
        Number of steps, instead of ``budget_s``: then the result depends on the seed alone.
    anneal
        Lower the learning rate to nearly 0 over the second half: for the last burst of a run.
    check_at_end
        Check on held-out counts when the burst ends, too; else only every `CHECK_STEPS` steps, counted over all bursts.
    interrupt
        Asked before the first step and after every step; True ends the burst.
    yield_callback
        Called many times within a step, see :func:`yield_between_layers`.
    """

    budget_s: float = 0.0
    steps: int | None = None
    anneal: bool = False
    check_at_end: bool = True
    interrupt: Callable[[], bool] = never
    yield_callback: Callable[[], object] | None = None

    @property
    def empty(self) -> bool:
        """True when there is no time and no step in it."""
        return (self.budget_s if self.steps is None else self.steps) <= 0


class _Checks:
    """Checks of one burst: keep the average whenever held-out counts score it better than what is chosen."""

    def __init__(self, tuning: FineTuning, score: HeldOutScore | None) -> None:
        self._tuning, self._score = tuning, score
        self._best = 1.0
        self._without_gain = 0
        self.last_step = tuning.steps

    def run(self) -> None:
        """Check the average as it is now; without held-out counts it is always kept."""
        self.last_step = self._tuning.steps
        score = 0.0 if self._score is None else self._score(self._tuning.average)
        if score < self._best:
            self._best, self._without_gain = score, 0
            self._tuning.chosen.load_state_dict(self._tuning.average.state_dict())
            self._tuning.chosen_version += 1
        else:
            self._without_gain += 1
        if self._score is None:
            self._best = 1.0

    @property
    def exhausted(self) -> bool:
        """True when the latest `PATIENCE` checks found nothing better."""
        return self._without_gain >= PATIENCE


class FineTuning(DenoiserTraining):
    """Weights that learn from one run, burst by burst.

    Attributes
    ----------
    chosen
        The running average that was best on held-out counts so far: what is used. A small map is learned by heart after
        some hundred steps, and held-out counts notice it.
    chosen_version
        Grows whenever ``chosen`` changes.
    steps, seconds, loss
        Steps and duration of all bursts, and the running mean of the loss (None before the first step).
    exhausted
        True when the last burst ended because nothing got better.

    Parameters
    ----------
    network
        Weights to start from.
    parts
        Parts of the network that learn; None for all (training from scratch, in benchmarks).
    """

    def __init__(
        self,
        network: Denoiser,
        device: torch.device,
        seed: int,
        *,
        learning_rate: float = LEARNING_RATE,
        parts: Sequence[str] | None = TRAINED_PARTS,
    ) -> None:
        trained = fresh_copy(network, device).train().requires_grad_(False)
        super().__init__(trained, fresh_copy(network, device).requires_grad_(False).eval())
        self.chosen = fresh_copy(network, device).requires_grad_(False).eval()
        self.chosen_version = 0
        self.device = device
        self.steps = 0
        self.seconds = 0.0
        self.loss: float | None = None
        self.exhausted = False
        learning = [p for name, p in trained.named_parameters() if parts is None or name.split(".")[0] in parts]
        for parameter in learning:
            parameter.requires_grad_(True)
        self._learning_rate = learning_rate
        self._optimizer = fine_tuning_optimizer(learning, lr=learning_rate)
        self._sampler = PatchSampler(seed)
        self._usual_norm = torch.zeros((), dtype=torch.float64)

    def burst(self, pairs: Pairs, held: Sums | None, plan: BurstPlan) -> int:
        """Take steps until the plan or the checks on held-out counts end it; return their number.

        Parameters
        ----------
        pairs
            What may train.
        held
            (Effective) counts that never train, (line, row, col): they choose among the weights on the way. Without
            them the last average is chosen.
        """
        if plan.empty or plan.interrupt() or not trainable_lines(pairs.sums).size:
            return 0
        started, first_step = time.monotonic(), self.steps
        score = None
        if held is not None:
            score = HeldOutScore(pairs.sums, held, self.chosen, self.device, plan.yield_callback)
        checks = _Checks(self, score)

        def share_left() -> float:
            if plan.steps is not None:
                return (first_step + plan.steps - self.steps) / plan.steps
            return (started + plan.budget_s - time.monotonic()) / plan.budget_s

        # on a GPU a step is over before anybody waits, and gradients are computed in a thread of their own
        backward = self.device.type == "cpu"
        with yield_between_layers(self.network, plan.yield_callback, backward=backward):
            while True:
                self._step(pairs, share_left if plan.anneal else None)
                if self.steps % CHECK_STEPS == 0:
                    checks.run()
                if share_left() <= 0 or checks.exhausted or plan.interrupt():
                    break
        if plan.check_at_end and self.steps > checks.last_step:
            checks.run()
        self.exhausted = checks.exhausted
        if self.exhausted:
            for network in (self.network, self.average):
                network.load_state_dict(self.chosen.state_dict())
            self._optimizer.state.clear()
        self.seconds += time.monotonic() - started
        return self.steps - first_step

    def _step(self, pairs: Pairs, share_left: Callable[[], float] | None) -> None:
        """Take one step; a batch whose loss is not finite changes no weight."""
        batch = {name: values.to(self.device) for name, values in self._sampler.draw(pairs).items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=native_bf16(self.device)):
            loss = self.line_losses(batch, pairs.square_share)[0].mean()
        if bool(torch.isfinite(loss)):
            self._learn(loss, share_left)
        self.steps += 1
        self.update_average(1.0 - min(0.98, self.steps / (self.steps + 5)))

    def _learn(self, loss: Tensor, share_left: Callable[[], float] | None) -> None:
        value = float(loss.detach())
        self.loss = value if self.loss is None else 0.95 * self.loss + 0.05 * value
        self._optimizer.zero_grad()
        loss.backward()
        limit = gradient_limit(self._usual_norm)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), float(limit))
        self._usual_norm += follow_norm(self._usual_norm, norm.cpu().double(), limit)
        factor = min(1.0, (self.steps + 1) / _WARMUP_STEPS)
        if share_left is not None:
            factor *= float(np.clip(2.0 * share_left(), 0.05, 1.0))
        for group in self._optimizer.param_groups:
            group["lr"] = factor * self._learning_rate
        self._optimizer.step()
