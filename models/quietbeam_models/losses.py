"""Losses on linear counts: their minimum is the conditional mean, so totals stay right.

Raw counts have a loss of about 1/2 at every dose; ``0.5 / loss`` is roughly the dwell gain.
"""

from __future__ import annotations

import torch
from torch import Tensor


def poisson_deviance(rate: Tensor, target: Tensor, exposure: Tensor) -> Tensor:
    """Return half the Poisson deviance per pixel, ``t log(t/m) - t + m`` with ``m = exposure * rate``."""
    expected = exposure * rate
    return torch.special.xlogy(target, target.clamp_min(1e-12) / expected.clamp_min(1e-12)) - target + expected


def relative_square(rate: Tensor, target: Tensor, exposure: Tensor) -> Tensor:
    """Return the squared error per pixel over twice the line's mean variance (its mean count)."""
    mean = target.mean((-2, -1), keepdim=True).clamp_min(1e-3)
    return (exposure * rate - target) ** 2 / (2.0 * mean)


def line_loss(rate: Tensor, target: Tensor, exposure: Tensor, square_share: float = 0.5) -> Tensor:
    """Return the loss of each line, (batch, line): a mix of deviance and relative square, mean over measured pixels."""
    both = poisson_deviance(rate, target, exposure) * (1.0 - square_share)
    both = both + relative_square(rate, target, exposure) * square_share
    measured = (exposure > 0).to(both.dtype)
    return (both * measured).sum((-2, -1)) / measured.sum((-2, -1)).clamp_min(1.0)


def error_loss(variance: Tensor, rate: Tensor, true_rate: Tensor, limit: float = 50.0) -> Tensor:
    """Return the Gaussian log-likelihood loss of each line's expected squared error, (batch, line).

    Its minimum is the conditional mean of the squared error; ``limit`` keeps a single surprise from filling the batch.
    """
    surprise = (rate.detach() - true_rate) ** 2 / variance
    return 0.5 * (torch.log(variance) + surprise.clamp_max(limit)).mean((-2, -1))
