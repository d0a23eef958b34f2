"""Fine-tuning on the run itself: Noise2Noise between random thinnings of the counts that are not held out."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero
from torch import Tensor

from quietbeam_models.losses import line_loss
from quietbeam_models.network import Denoiser
from quietbeam_models.optimizer import MuonAdamW

from .counts import Sums
from .networks import fresh_copy, low_precision, turned
from .options import DenoiseOptions, never

BATCH_PIXELS = 32_768


class FineTuning(L.LightningModule):
    """Weights that learn from one run; ``average`` is what is used.

    Parameters
    ----------
    network
        Where to start.
    """

    def __init__(self, network: Denoiser, device: torch.device, options: DenoiseOptions, seed: int) -> None:
        super().__init__()
        self.network = fresh_copy(network, device).train().requires_grad_(True)
        self.average = fresh_copy(network, device).requires_grad_(False).eval()
        self.options = options
        self.steps = 0
        self.seconds = 0.0
        self._rng = np.random.default_rng([seed, 11])
        self._optimizer = MuonAdamW(self.network.parameters(), lr=options.lr, muon_lr=options.muon_lr)
        self._data: Sums | None = None
        self._order = np.arange(0)
        self._deadline = self._anneal_s = 0.0
        self._interrupt: Callable[[], bool] = never
        self._usual_norm = 0.0
        self._device = device

    def burst(self, data: Sums, budget_s: float, interrupt: Callable[[], bool] = never, *, anneal: bool = False) -> int:
        """Take steps until the time is up or ``interrupt()`` is true; return how many.

        ``anneal`` lowers the learning rate to nearly 0 over the second half of the budget: for the last burst of a run.

        Parameters
        ----------
        data
            Integer counts (line, row, col) that may train, with their exposure.
        """
        if budget_s <= 0 or interrupt() or not (data.counts.sum((1, 2)) > 8).any():
            return 0
        started, before = time.monotonic(), self.steps
        self._data, self._interrupt, self._deadline = data, interrupt, started + budget_s
        self._anneal_s = 0.5 * budget_s if anneal else 0.0
        with _quiet():
            trainer = L.Trainer(
                accelerator={"cuda": "gpu"}.get(self._device.type, self._device.type),
                devices=[self._device.index or 0] if self._device.type == "cuda" else 1,
                precision="bf16-mixed" if low_precision(self._device) else "32-true",
                max_steps=-1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                barebones=False,
            )
            trainer.fit(self)
        self.seconds += time.monotonic() - started
        self._data = None
        return self.steps - before

    # -- data ---------------------------------------------------------------------------------------------------
    def train_dataloader(self) -> Any:
        """Return an endless stream of random splits of random patches."""
        return torch.utils.data.DataLoader(_Stream(self), batch_size=None, num_workers=0)

    def draw(self) -> dict[str, Tensor]:
        """Draw a batch: a patch of some lines, its counts thinned into input and target."""
        data, rng, options = self._data, self._rng, self.options
        assert data is not None
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
            counts = turned(data.counts[lines, r : r + rows, c : c + cols], code)
            exposure = turned(data.exposure[lines, r : r + rows, c : c + cols], code)
            share = rng.uniform(0.5, 0.85)
            seen = rng.binomial(np.clip(counts, 0, None).astype(np.int64), share).astype(np.float32)
            usual = exposure.sum((1, 2), keepdims=True) / np.maximum((exposure > 0).sum((1, 2), keepdims=True), 1)
            relative = exposure / np.maximum(usual, 1e-9)
            inputs.append(seen)
            targets.append(counts - seen)
            exposures_in.append(relative)
            exposures_out.append(relative * ((1 - share) / share))
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
        loss = line_loss(rate, batch["target"], batch["target_exposure"]).mean()
        return loss if bool(torch.isfinite(loss)) else None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip outliers; warm up."""
        limit = 1.5 * self._usual_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        self._usual_norm += (0.05 if self._usual_norm else 1.0) * (min(norm, limit) - self._usual_norm)
        factor = min(1.0, (self.steps + 1) / 10)
        if self._anneal_s:
            left = (self._deadline - time.monotonic()) / self._anneal_s
            factor *= float(np.clip(left, 0.05, 1.0))
        for group in optimizer.param_groups:
            group["lr"] = factor * (self.options.muon_lr if group["muon"] else self.options.lr)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:  # noqa: ARG002
        """Update the average; stop when asked to or when the time is up."""
        self.steps += 1
        decay = min(0.98, self.steps / (self.steps + 5))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1.0 - decay)
        if time.monotonic() >= self._deadline or self._interrupt():
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the one optimizer of this run, its state kept between bursts."""
        return self._optimizer


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
