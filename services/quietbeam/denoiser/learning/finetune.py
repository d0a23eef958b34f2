"""Fine-tuning on the run itself: Noise2Noise between random splits of the photons that are not held out."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero
from torch import Tensor

from quietbeam_models.losses import line_loss
from quietbeam_models.network import Denoiser, native_bf16

from ..data.counts import Sums
from ..estimators.networks import fresh_copy, giving_way, predict, turned
from ..options import DenoiseOptions, never
from .pairs import Pairs

BATCH_PIXELS = 32_768
CHECK_STEPS = 20
"""Steps between two looks at held-out counts."""
LEARNING = ("up", "decoder", "leave", "refine", "head")
"""Parts of the network that learn. The encoder stays: a third less time per step, and noise is learned later."""
PATIENCE = 5
"""A burst ends after so many looks that found nothing better."""
_CHECK_PIXELS = 96
_CHECK_LINES = 8


class FineTuning(L.LightningModule):
    """Weights that learn from one run.

    ``average`` is the running average of the weights, ``chosen`` the average that was best on held-out counts so far:
    what is used. A small map is learned by heart after some hundred steps, and held-out counts notice it.
    ``exhausted`` says that the last burst ended because nothing got better.

    Parameters
    ----------
    network
        Where to start.
    parts
        Parts of the network that learn; None for all (training from scratch, in benchmarks).
    """

    def __init__(
        self,
        network: Denoiser,
        device: torch.device,
        options: DenoiseOptions,
        seed: int,
        parts: Sequence[str] | None = LEARNING,
    ) -> None:
        super().__init__()
        self.network = fresh_copy(network, device).train().requires_grad_(False)
        learning = [p for name, p in self.network.named_parameters() if parts is None or name.split(".")[0] in parts]
        for parameter in learning:
            parameter.requires_grad_(True)
        self.average = fresh_copy(network, device).requires_grad_(False).eval()
        self.chosen = fresh_copy(network, device).requires_grad_(False).eval()
        self.options = options
        self.steps = 0
        self.seconds = 0.0
        self.loss: float | None = None
        self._rng = np.random.default_rng([seed, 11])
        # not Muon: its equal steps in all directions learn the noise of a small map by heart (docs/notes/science.md)
        self._optimizer = torch.optim.AdamW(learning, lr=options.lr, betas=(0.9, 0.99), weight_decay=0.0, foreach=True)
        self._held_out: _HeldOut | None = None
        self._best = float("inf")
        self._looked_at = self._in_vain = 0
        self.exhausted = False
        self._pairs: Pairs | None = None
        self._order = np.arange(0)
        self._left: Callable[[], float] = lambda: 1.0
        self._anneal = False
        self._interrupt: Callable[[], bool] = never
        self._usual_norm = 0.0
        self._home = device  # `device` is Lightning's own and says cpu after every burst

    def burst(
        self,
        pairs: Pairs,
        budget_s: float,
        interrupt: Callable[[], bool] = never,
        *,
        held: Sums | None = None,
        anneal: bool = False,
        look: bool = True,
        between: Callable[[], object] | None = None,
        most: int | None = None,
    ) -> int:
        """Take steps until the time is up, ``interrupt()`` is true or nothing gets better; return how many.

        With ``most`` steps there is no clock: what comes out depends on the seed alone.

        ``anneal`` lowers the learning rate to nearly 0 over the second half of the budget: for the last burst of a run.

        Parameters
        ----------
        pairs
            What may train.
        held
            (Effective) counts that never train, (line, row, col): they choose among the weights on the way. Without
            them the last average is chosen.
        look
            Look at them when the burst ends, too; else only every `CHECK_STEPS` steps, counted over all bursts.
        between
            Called many times within a step, see :func:`giving_way`.
        """
        if (budget_s if most is None else most) <= 0 or interrupt() or not (pairs.sums.counts.sum((1, 2)) > 8).any():
            return 0
        started, before = time.monotonic(), self.steps
        self._pairs, self._interrupt = pairs, interrupt
        self._held_out = None if held is None else _HeldOut(pairs.sums, held, self.chosen, self._home, between)
        self._best, self._in_vain, self._looked_at = 1.0, 0, self.steps
        last = before + (most or 0)
        # share of the burst that is left
        self._left = lambda: (
            (started + budget_s - time.monotonic()) / budget_s if most is None else (last - self.steps) / most
        )
        self._anneal = anneal
        # on a GPU a step is over before anybody waits, and gradients are computed in a thread of their own
        backward = self._home.type == "cpu"
        with _quiet(), giving_way(self.network, between, backward=backward):
            trainer = L.Trainer(
                accelerator={"cuda": "gpu"}.get(self._home.type, self._home.type),
                devices=[self._home.index or 0] if self._home.type == "cuda" else 1,
                precision="bf16-mixed" if native_bf16(self._home) else "32-true",
                max_steps=-1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                barebones=False,
            )
            try:
                trainer.fit(self)
            finally:
                self.to(self._home)  # the trainer leaves it on the CPU
        if look and self.steps > self._looked_at:
            self._look()
        self.exhausted = self._in_vain >= PATIENCE
        if self.exhausted:
            for network in (self.network, self.average):
                network.load_state_dict(self.chosen.state_dict())
            self._optimizer.state.clear()
        self.seconds += time.monotonic() - started
        self._pairs = self._held_out = None
        return self.steps - before

    def _look(self) -> None:
        """Keep the average if held-out counts find it better than what is chosen."""
        self._looked_at = self.steps
        score = 0.0 if self._held_out is None else self._held_out.score(self.average)
        if score < self._best:
            self._best, self._in_vain = score, 0
            self.chosen.load_state_dict(self.average.state_dict())
        else:
            self._in_vain += 1
        if self._held_out is None:
            self._best = 1.0

    # -- data ---------------------------------------------------------------------------------------------------
    def train_dataloader(self) -> Any:
        """Return an endless stream of random splits of random patches."""
        return torch.utils.data.DataLoader(_Stream(self), batch_size=None, num_workers=0)

    def draw(self) -> dict[str, Tensor]:
        """Draw a batch: a patch of some lines, its photons split into input and target."""
        pairs, rng, options = self._pairs, self._rng, self.options
        assert pairs is not None
        data = pairs.sums
        live = np.flatnonzero(data.counts.sum((1, 2)) > 8)
        take = min(options.lines_per_step, live.size)
        if self._order.size < take or not np.isin(self._order, live).all():
            self._order = rng.permutation(live)
        lines, self._order = self._order[:take], self._order[take:]
        rows_lit = np.flatnonzero((data.exposure[lines] > 0).any((0, 2)))
        first, stop = int(rows_lit[0]), int(rows_lit[-1]) + 1
        rows, cols = min(options.crop, stop - first), min(options.crop, data.counts.shape[2])
        batch = int(np.clip(BATCH_PIXELS // (take * rows * cols), 1, 8))
        inputs, targets, exposures_in, exposures_out = [], [], [], []
        for _ in range(batch):
            r = int(rng.integers(first, stop - rows + 1))
            c = int(rng.integers(data.counts.shape[2] - cols + 1))
            code = int(rng.integers(8)) if rows == cols or batch == 1 else int(rng.integers(4))
            seen, target = pairs.split(lines, (slice(r, r + rows), slice(c, c + cols)), rng)
            lit = np.maximum((seen.exposure > 0).sum((1, 2), keepdims=True), 1)
            usual = np.maximum(seen.exposure.sum((1, 2), keepdims=True) / lit, 1e-9)
            inputs.append(turned(seen.counts, code))
            targets.append(turned(target.counts, code))
            exposures_in.append(turned(seen.exposure / usual, code))
            exposures_out.append(turned(target.exposure * (seen.exposure > 0) / usual, code))
        names = ("counts", "target", "exposure", "target_exposure")
        stacks = (inputs, targets, exposures_in, exposures_out)
        return {
            name: torch.from_numpy(np.ascontiguousarray(np.stack(stack), dtype=np.float32))
            for name, stack in zip(names, stacks, strict=True)
        }

    # -- steps --------------------------------------------------------------------------------------------------
    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor | None:  # noqa: ARG002
        """Return the loss against the other part of the counts, or None where it is not finite."""
        rate = self.network(batch["counts"], batch["exposure"])
        assert self._pairs is not None
        loss = line_loss(rate, batch["target"], batch["target_exposure"], self._pairs.square_share).mean()
        if not bool(torch.isfinite(loss)):
            return None
        value = float(loss.detach())
        self.loss = value if self.loss is None else 0.95 * self.loss + 0.05 * value
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip outliers; warm up."""
        limit = 1.5 * self._usual_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        self._usual_norm += (0.05 if self._usual_norm else 1.0) * (min(norm, limit) - self._usual_norm)
        factor = min(1.0, (self.steps + 1) / 10)
        if self._anneal:
            factor *= float(np.clip(2.0 * self._left(), 0.05, 1.0))
        for group in optimizer.param_groups:
            group["lr"] = factor * self.options.lr

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:  # noqa: ARG002
        """Update the average; stop when asked to or when the time is up."""
        self.steps += 1
        decay = min(0.98, self.steps / (self.steps + 5))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1.0 - decay)
        if self.steps % CHECK_STEPS == 0:
            self._look()
        if self._left() <= 0 or self._in_vain >= PATIENCE or self._interrupt():
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the one optimizer of this run, its state kept between bursts."""
        return self._optimizer


class _HeldOut:
    """Score of weights on held-out counts of a part of the map: mean over lines of the error relative to ``start``."""

    def __init__(
        self,
        train: Sums,
        held: Sums,
        start: Denoiser,
        device: torch.device,
        between: Callable[[], object] | None,
    ) -> None:
        lit = np.flatnonzero((held.exposure > 0).any((0, 2)))
        lines = np.flatnonzero(train.counts.sum((1, 2)) > 8)
        lines = lines[np.linspace(0, lines.size - 1, min(lines.size, _CHECK_LINES)).astype(int)]
        middle, cols = int(lit[lit.size // 2]), held.counts.shape[2]
        r = slice(max(0, middle - _CHECK_PIXELS // 2), middle + _CHECK_PIXELS // 2)
        c = slice(max(0, cols // 2 - _CHECK_PIXELS // 2), cols // 2 + _CHECK_PIXELS // 2)
        self._seen = Sums(train.counts[lines, r, c], train.exposure[lines, r, c])
        self._held = Sums(held.counts[lines, r, c], held.exposure[lines, r, c])
        self._predict = partial(predict, sums=self._seen, device=device, between=between)
        self._begin: Denoiser | None = start

    def _errors(self, network: Denoiser) -> tuple[np.ndarray, np.ndarray]:
        """Return each line's squared error, unbiased, and its standard error, both summed over pixels."""
        rate, _ = self._predict(network)
        miss = (self._held.exposure * rate - self._held.counts).astype(np.float64) ** 2 - self._held.counts
        return miss.sum((1, 2)), miss.std((1, 2)) * np.sqrt(miss[0].size)

    def score(self, network: Denoiser) -> float:
        """Return the score, below 1 where the network is better than at the start."""
        if self._begin is not None:  # only now: most bursts of a live run are interrupted before the first look
            errors, spread = self._errors(self._begin)
            self._start, self._unit = errors, np.maximum(errors, 2 * spread) + 1e-9
            self._begin = None
        return float(1.0 + ((self._errors(network)[0] - self._start) / self._unit).mean())


class _Stream(torch.utils.data.IterableDataset[dict[str, Tensor]]):
    def __init__(self, module: FineTuning) -> None:
        self._module = module

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield self._module.draw()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's greetings and warnings: a burst is not an event."""
    log = rank_zero.rank_zero_module.log
    level = log.level
    log.setLevel(40)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
