"""Pretraining on procedural specimens, as a Lightning module."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import lightning as L
import structlog
import torch
from torch import Tensor

from quietbeam_models.losses import error_loss, line_loss
from quietbeam_models.network import Denoiser, NetworkConfig
from quietbeam_models.optimizer import MuonAdamW
from quietbeam_models.patches import PatchConfig, PatchStream, validation_batches

log = structlog.get_logger()

VALIDATION_DOSES = (0.1, 0.5, 2.0, 8.0, 32.0, 200.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How the weights are made.

    Attributes
    ----------
    budget_s
        Training time; the learning rate follows elapsed time over budget, so it always reaches its end.
    floor
        Loss added before weighting: lines are weighted by ``1 / (floor + their present error)``, so that every dose and
        difficulty counts by its relative improvement (the geometric mean of dwell gains), not by its size.
    error_weight
        Weight of the error head's loss.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    budget_s: float = 5_000.0
    lr: float = 1e-3
    muon_lr: float = 0.006
    weight_decay: float = 0.3
    average: float = 0.998
    floor: float = 5e-4
    error_weight: float = 0.05
    seed: int = 0


def learning_progress(progress: float, warmup: float = 0.01) -> float:
    """Return the learning-rate factor: short warm-up, constant, then cosine down to nearly 0."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    start = 0.25
    if progress < start:
        return 1.0
    return 0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * min((progress - start) / (1 - start), 1.0)))


class Pretraining(L.LightningModule):
    """Train :class:`Denoiser` and a running average of its weights, which is what ships."""

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        self.network = Denoiser(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.elapsed_s = 0.0
        self.trained_on = "cpu"
        self.curve: list[dict[str, float]] = []
        self._last = time.monotonic()
        self._typical = 0.0
        self._skipped = self._in_a_row = self._rollbacks = 0
        self._usual_norm = 0.0
        self._good: dict[str, Tensor] = {}
        self._candidate: dict[str, Tensor] = {}
        self._recent: list[float] = []

    def start_from(self, parent: Denoiser) -> None:
        """Take over the weights of ``parent``; parts that it lacks keep their random start."""
        for network in (self.network, self.average):
            missing, unexpected = network.load_state_dict(parent.state_dict(), strict=False)
            if unexpected or any(not name.startswith("error_head.") for name in missing):
                raise ValueError(f"the parent is another network: missing {missing[:3]}, unexpected {unexpected[:3]}")

    # -- training -----------------------------------------------------------------------------------------------
    def on_train_start(self) -> None:
        """Start the clock."""
        self.trained_on = str(self.device)
        self._last = time.monotonic()

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor | None:  # noqa: ARG002
        """Return the weighted loss, or None to skip a batch whose loss exploded."""
        rate, variance = self.network.estimate(batch["counts"], batch["exposure"])
        loss = line_loss(rate, batch["target"], batch["exposure"])
        with torch.no_grad():
            true = batch["exposure"] * batch["rate"]
            error = loss if self.config.patches.targets == "expectation" else line_loss(rate, true, batch["exposure"])
            weight = 1.0 / (self.config.floor + error)
        figure = torch.log(self.config.floor + error.detach()).mean()
        # a mean log error far above the usual one is an explosion
        if not math.isfinite(float(figure)) or float(figure) > self._typical + 3.0:
            self._skipped += 1
            self._in_a_row += 1
            if self._in_a_row > 8:
                self._roll_back()
            return None
        self._in_a_row = 0
        self._typical += 0.02 * (float(figure) - self._typical)
        self._recent.append(float(figure))
        total = (weight * loss).mean()
        if variance is not None:
            total = total + self.config.error_weight * error_loss(variance, rate, batch["rate"]).mean()
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate by the clock and clip the gradient."""
        now = time.monotonic()
        self.elapsed_s += min(now - self._last, 10.0)
        self._last = now
        factor = learning_progress(self.elapsed_s / self.config.budget_s)
        for group in optimizer.param_groups:
            group["lr"] = factor * (self.config.muon_lr if group["muon"] else self.config.lr)
        # Muon ignores the size of a gradient but not its share in the momentum: no single batch may dominate it
        limit = 1.5 * self._usual_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        self._usual_norm += (0.05 if self._usual_norm else 1.0) * (min(norm, limit) - self._usual_norm)

    def _roll_back(self) -> None:
        """Return to the last good average: a diverged network does not come back by itself."""
        self._in_a_row = 0
        if not self._good:
            return
        self._rollbacks += 1
        log.warning("pretraining_rolled_back", step=self.global_step, times=self._rollbacks)
        self.network.load_state_dict(self._good)
        self.average.load_state_dict(self._good)
        optimizer = self.trainer.optimizers[0]
        optimizer.state.clear()
        self._typical += 1.0

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:  # noqa: ARG002
        """Update the running average; stop when the time is up."""
        decay = min(self.config.average, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            slow, fast = list(self.average.parameters()), list(self.network.parameters())
            torch._foreach_lerp_(slow, fast, 1.0 - decay)
        if self.global_step % 300 == 0 and not self._in_a_row:
            self._good = {k: v.clone() for k, v in self._candidate.items()} if self._candidate else {}
            self._candidate = {k: v.clone() for k, v in self.average.state_dict().items()}
        if self.elapsed_s >= self.config.budget_s:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return MuonAdamW(
            self.network.parameters(),
            lr=self.config.lr,
            muon_lr=self.config.muon_lr,
            weight_decay=self.config.weight_decay,
        )

    # -- validation ---------------------------------------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        """Collect gains by dose."""
        self._gains: dict[float, float] = {}
        self._calibration: list[float] = []

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Note the geometric mean of the dwell gains of one dose."""
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
        loss = sum(self._recent) / max(len(self._recent), 1)
        self._recent.clear()
        point = {"step": float(self.global_step), "minutes": self.elapsed_s / 60, "log_error": loss}
        point |= {f"gain_{dose:g}": gain for dose, gain in self._gains.items()}
        if self._calibration:
            point["error_over_expected"] = math.exp(sum(self._calibration) / len(self._calibration))
        self.curve.append(point)
        log.info("pretraining", skipped=self._skipped, **{k: round(v, 3) for k, v in point.items()})
        self._last = time.monotonic()

    # -- resuming -----------------------------------------------------------------------------------------------
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep clock and curve."""
        checkpoint["quietbeam"] = {"elapsed_s": self.elapsed_s, "curve": self.curve, "typical": self._typical}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore clock and curve."""
        state = checkpoint["quietbeam"]
        self.elapsed_s, self.curve, self._typical = state["elapsed_s"], list(state["curve"]), state["typical"]

    def train_dataloader(self) -> Any:
        """Return the endless stream; resuming continues with fresh specimens."""
        # every device draws specimens of its own
        seed = self.config.patches.seed + 1000 * round(self.elapsed_s) + 1_000_003 * self.global_rank
        return PatchStream(replace(self.config.patches, seed=seed), self.device)

    def val_dataloader(self) -> Any:
        """Return the fixed validation set."""
        return torch.utils.data.DataLoader(
            validation_batches(self.config.seed, VALIDATION_DOSES),  # type: ignore[arg-type]
            batch_size=None,
            num_workers=0,
        )
