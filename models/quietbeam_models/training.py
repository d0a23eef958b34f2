"""Shared by pretraining and fine-tuning: loss, optimizers, limit of the gradient norm, running average of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from quietbeam_models.losses import line_loss
from quietbeam_models.network import Denoiser
from quietbeam_models.optimizer import MuonAdamW


class DenoiserTraining(nn.Module):
    """A network in training, and the running average of its weights, which is what is used.

    Pretraining makes a Lightning module of it; fine-tuning calls it in a plain loop, which starts in microseconds.
    """

    def __init__(self, network: Denoiser, average: Denoiser) -> None:
        super().__init__()
        self.network, self.average = network, average

    def line_losses(
        self, batch: Mapping[str, Tensor], square_share: float = 0.5
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return each line's loss (batch, line), the rate and its expected squared error (batch, line, row, col).

        Parameters
        ----------
        batch
            ``counts``, ``exposure``, ``target`` and, where it is not the exposure, ``target_exposure``; each
            (batch, line, row, col).
        square_share
            See :func:`line_loss`.
        """
        rate, variance = self.network.estimate(batch["counts"], batch["exposure"])
        exposure = batch.get("target_exposure", batch["exposure"])
        return line_loss(rate, batch["target"], exposure, square_share), rate, variance

    @torch.no_grad()
    def update_average(self, share: float | Tensor) -> None:
        """Move the average by ``share`` towards the present weights."""
        for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
            slow.lerp_(fast, share)


def pretraining_optimizer(
    parameters: Iterable[nn.Parameter], *, lr: float, muon_lr: float, weight_decay: float
) -> MuonAdamW:
    """Return Muon for matrices and convolutions with AdamW for the rest."""
    return MuonAdamW(parameters, lr=lr, muon_lr=muon_lr, weight_decay=weight_decay)


def fine_tuning_optimizer(parameters: Iterable[nn.Parameter], *, lr: float) -> torch.optim.AdamW:
    """Return AdamW for all parameters.

    Muon's equal steps in all directions learn the noise of a small map by heart (docs/notes/science.md).
    """
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.0, foreach=True)


def gradient_limit(usual_norm: Tensor) -> Tensor:
    """Return the largest gradient norm that a step may have: 1.5 times the usual one, so that no batch dominates."""
    return (1.5 * usual_norm).masked_fill(usual_norm == 0, torch.inf)


def follow_norm(usual_norm: Tensor, norm: Tensor, limit: Tensor) -> Tensor:
    """Return the change of the usual norm after a step: a running mean over about 20 steps, begun by the first."""
    share = torch.full_like(usual_norm, 0.05).masked_fill(usual_norm == 0, 1.0)
    return share * (torch.minimum(norm, limit) - usual_norm)
