"""Pretraining on procedural specimens, as a Lightning module."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import lightning as L
import structlog
import torch
from torch import Tensor

from quietbeam_models.graphs import Graphed
from quietbeam_models.losses import error_loss, line_loss
from quietbeam_models.network import Denoiser, native_bf16
from quietbeam_models.patches import Bank, Batch, Draws, validation_batches
from quietbeam_models.pretrain_config import PretrainConfig, learning_progress
from quietbeam_models.pruning import prune
from quietbeam_models.training import DenoiserTraining, follow_norm, gradient_limit, pretraining_optimizer

log = structlog.get_logger()

VALIDATION_DOSES = (0.1, 0.5, 2.0, 8.0, 32.0, 200.0, 2000.0)


CHECK_STEPS = 50
"""Steps between two reads of values from the device."""
_STORED_BATCHES = 24
"""Batches of one shape that are kept with the teacher's maps."""
_PRUNING_BATCHES = 24
"""Batches on which the importance of channels is measured."""


class Pretraining(DenoiserTraining, L.LightningModule):
    """Train :class:`Denoiser` and a running average of its weights, which is what ships.

    A step reads no value of a tensor: on a single GPU it is replayed as a CUDA graph, batch and all.
    """

    typical: Tensor
    usual_norm: Tensor
    in_a_row: Tensor
    skipped: Tensor
    log_errors: Tensor
    counted: Tensor
    decay: Tensor

    def __init__(self, config: PretrainConfig) -> None:
        network = Denoiser(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(network, copy.deepcopy(network).requires_grad_(False))
        self.automatic_optimization = False
        self.config = config
        self.steps = 0
        self.elapsed_s = 0.0
        self.trained_on = "cpu"
        self._devices = 1
        self.curve: list[dict[str, float]] = []
        for name in ("typical", "usual_norm", "in_a_row", "skipped", "log_errors", "counted", "decay"):
            self.register_buffer(name, torch.zeros(()))
        self._last = time.monotonic()
        self._rollbacks = 0
        self._teacher: list[Denoiser] = []
        self._taught: dict[tuple[int, int, int], list[Batch]] = {}
        self._good: dict[str, Tensor] = {}
        self._candidate: dict[str, Tensor] = {}

    def start_from(self, parent: Denoiser) -> None:
        """Take over the weights of ``parent``; parts that it lacks keep their random start.

        Of a wider parent the channels are kept that matter most, see :mod:`quietbeam_models.pruning`.
        """
        if parent.config.widths != self.config.network.widths:
            parent = prune(parent, self.config.network, islice(self._losses(), _PRUNING_BATCHES))
        for network in (self.network, self.average):
            missing, unexpected = network.load_state_dict(parent.state_dict(), strict=False)
            if unexpected or any(not name.startswith("error_head.") for name in missing):
                raise ValueError(f"the parent is another network: missing {missing[:3]}, unexpected {unexpected[:3]}")

    def _losses(self) -> Iterator[Callable[[Denoiser], Tensor]]:
        """Yield endless losses of a network, each on a batch of its own."""
        patches = replace(self.config.patches, workers=0, bank=64)
        bank = Bank(patches, "cpu")
        for shape in Draws(bank):
            batch = bank.draw(*shape)

            def loss(network: Denoiser, batch: Batch = batch) -> Tensor:
                rate, variance = network.estimate(batch["counts"], batch["exposure"])
                error = line_loss(rate, batch["target"], batch["exposure"])
                total = torch.log(self.config.floor + error).mean()
                if variance is not None:
                    total = total + self.config.error_weight * error_loss(variance, rate, batch["rate"]).mean()
                return total

            yield loss

    def learn_from(self, teacher: Denoiser) -> None:
        """Mix the rate of ``teacher`` into the targets: it has far less variance than the truth that was drawn."""
        self._teacher = [teacher.requires_grad_(False)]  # in a list, so that checkpoints do not hold it

    def on_train_start(self) -> None:
        """Start the clock."""
        self.trained_on = str(self.device)
        torch.manual_seed(self._seed())
        self._devices = self.trainer.world_size
        graphed = self.device.type == "cuda" and self._devices == 1 and not self._teacher
        self._step = Graphed(self._train_step, graphed)
        self._last = time.monotonic()

    def training_step(self, shape: tuple[int, int, int], batch_index: int) -> None:  # noqa: ARG002
        """Take one step on a batch of (lines, rows, cols)."""
        self._update_elapsed()
        self._optimizer.factor.fill_(learning_progress(self.elapsed_s / self.config.budget_s))
        self.decay.fill_(min(self.config.average, (1 + self.steps) / (10 + self.steps)))
        self._step(*(int(n) for n in shape))
        self.steps += 1
        if self.steps % CHECK_STEPS == 0 and float(self.in_a_row) > 8:
            self._roll_back()
        elif self.steps % (6 * CHECK_STEPS) == 0:
            self._good = self._candidate
            self._candidate = {k: v.clone() for k, v in self.average.state_dict().items()}
        if self.elapsed_s >= self.config.budget_s:
            self.trainer.should_stop = True

    def _update_elapsed(self) -> None:
        """Update the training time; several devices go by the clock of the first, or their weights would part."""
        if self._devices > 1 and self.steps % CHECK_STEPS:
            return
        now = time.monotonic()
        self.elapsed_s += min(now - self._last, 10.0 * (CHECK_STEPS if self._devices > 1 else 1))
        self._last = now
        if self._devices > 1:
            self.elapsed_s = self.trainer.strategy.broadcast(self.elapsed_s)

    def _train_step(self, lines: int, rows: int, cols: int) -> None:
        """Draw a batch and learn from it; a batch whose loss exploded changes nothing."""
        batch = self._taught_batch(lines, rows, cols) if self._teacher else self._bank.draw(lines, rows, cols)
        with self._autocast():
            loss, rate, variance = self.line_losses(batch)
        with torch.no_grad():
            true = batch["exposure"] * batch["rate"]
            exact = self.config.patches.targets == "expectation" and not self._teacher
            error = loss if exact else line_loss(rate, true, batch["exposure"])
            weight = 1.0 / (self.config.floor + error)
            figure = torch.log(self.config.floor + error).mean()
        total = (weight * loss).mean()
        if variance is not None:
            total = total + self.config.error_weight * error_loss(variance, rate, batch["rate"]).mean()
        for p in self.network.parameters():
            p.grad = None
        self.manual_backward(total)
        if self._devices > 1:
            figure = self.trainer.strategy.reduce(figure, reduce_op="mean")
        self._update(figure)

    @torch.no_grad()
    def _taught_batch(self, lines: int, rows: int, cols: int) -> Batch:
        """Return a batch whose target has the teacher's share in it; most come from a store of earlier ones."""
        config = self.config
        store = self._taught.setdefault((lines, rows, cols), [])
        if len(store) >= 4 and float(torch.rand(())) >= config.redraw:
            return store[int(torch.randint(len(store), ()))]
        batch = self._bank.draw(lines, rows, cols)
        with self._autocast():
            taught = self._teacher[0].to(self.device)(batch["counts"], batch["exposure"])
        share = config.teacher_share
        batch["target"] = (1 - share) * batch["target"] + share * batch["exposure"] * taught
        if len(store) < _STORED_BATCHES:
            store.append(batch)
        else:
            store[int(torch.randint(len(store), ()))] = batch
        return batch

    @torch.no_grad()
    def _update(self, figure: Tensor) -> None:
        """Clip the gradient, step and average; ``figure`` is the batch's mean log error."""
        params = [p for p in self.network.parameters() if p.grad is not None]
        grads = [p.grad for p in params if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        # a mean log error far above the usual one is an explosion
        sound = torch.isfinite(norm) & (figure < self.typical + 3.0)
        # Muon ignores the size of a gradient but not its share in the momentum: no single batch may dominate it
        limit = gradient_limit(self.usual_norm)
        scale = (limit / norm).clamp_max(1.0)
        for p, grad in zip(params, grads, strict=True):
            p.grad = (grad * scale).masked_fill(~sound, 0.0)
        self._optimizer.step()
        self.update_average(1.0 - self.decay)
        self.usual_norm += follow_norm(self.usual_norm, norm, limit).masked_fill(~sound, 0.0)
        self.typical += (0.02 * (figure - self.typical)).masked_fill(~sound, 0.0)
        self.log_errors += figure.masked_fill(~sound, 0.0)
        self.counted += sound
        self.skipped += ~sound
        self.in_a_row += 1.0
        self.in_a_row.masked_fill_(sound, 0.0)

    def _autocast(self) -> torch.autocast:
        # no cache of cast weights: a graph would keep the weights of the step that recorded it
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native_bf16(self.device), cache_enabled=False)

    def _roll_back(self) -> None:
        """Return to the last good average: a diverged network does not come back by itself."""
        self.in_a_row.zero_()
        if not self._good:
            return
        self._rollbacks += 1
        log.warning("pretraining_rolled_back", step=self.steps, times=self._rollbacks)
        self.network.load_state_dict(self._good)
        self.average.load_state_dict(self._good)
        self._optimizer.forget()
        self.typical += 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        config = self.config
        self._optimizer = pretraining_optimizer(
            self.network.parameters(), lr=config.lr, muon_lr=config.muon_lr, weight_decay=config.weight_decay
        )
        return self._optimizer

    def on_validation_epoch_start(self) -> None:
        """Collect gains by dose."""
        self._gains: dict[float, float] = {}
        self._calibration: list[float] = []

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Store the geometric mean of the dwell gains of one dose."""
        with self._autocast():
            rate, variance = self.average.estimate(batch["counts"], batch["exposure"])
        error = ((rate - batch["rate"]) ** 2).mean((-2, -1))
        if variance is not None:
            self._calibration.append(float((error / variance.mean((-2, -1))).log().mean()))
        raw = ((batch["counts"] - batch["rate"]) ** 2).mean((-2, -1))
        self._gains[VALIDATION_DOSES[batch_index]] = float(torch.log(raw / error).mean().exp())

    def on_validation_epoch_end(self) -> None:
        """Write one line of the curve."""
        if self.trainer.sanity_checking:
            return
        loss = float(self.log_errors / self.counted.clamp_min(1))
        self.log_errors.zero_()
        self.counted.zero_()
        point = {"step": float(self.steps), "minutes": self.elapsed_s / 60, "log_error": loss}
        point |= {f"gain_{dose:g}": gain for dose, gain in self._gains.items()}
        if self._calibration:
            point["error_over_expected"] = math.exp(sum(self._calibration) / len(self._calibration))
        self.curve.append(point)
        log.info("pretraining", skipped=int(self.skipped), **{k: round(v, 3) for k, v in point.items()})
        self._last = time.monotonic()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep clock and curve."""
        checkpoint["quietbeam"] = {"elapsed_s": self.elapsed_s, "steps": self.steps, "curve": self.curve}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore clock and curve."""
        state = checkpoint["quietbeam"]
        self.elapsed_s, self.steps, self.curve = state["elapsed_s"], state["steps"], list(state["curve"])

    def _seed(self) -> int:
        """Return a seed of this device and time: resuming continues with fresh specimens."""
        return self.config.patches.seed + 1000 * round(self.elapsed_s) + 1_000_003 * self.global_rank

    def train_dataloader(self) -> Any:
        """Return the endless draws from a bank of fresh specimens on this device."""
        self._bank = Bank(replace(self.config.patches, seed=self._seed()), self.device)
        return Draws(self._bank)

    def val_dataloader(self) -> Any:
        """Return the fixed validation set."""
        return torch.utils.data.DataLoader(
            validation_batches(self.config.seed, VALIDATION_DOSES),  # type: ignore[arg-type]
            batch_size=None,
            num_workers=0,
        )
