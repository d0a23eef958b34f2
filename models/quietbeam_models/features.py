"""Input features of the network: counts at several scales around each pixel, in units of their own noise.

Every difference is taken between Anscombe-transformed sums, so that noise has unit variance at every dose and
scale and the network sees the same numbers for the same signal-to-noise ratio. Unmeasured pixels have exposure 0: they
add nothing to sums, which makes gaps, borders and padding the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

N_FEATURES = 9
FINE, MIDDLE, COARSE = 3, 9, 27


def anscombe(counts: Tensor) -> Tensor:
    """Return ``2 sqrt(counts + 3/8)``: unit noise variance for Poisson counts (Anscombe 1948)."""
    return 2.0 * torch.sqrt(counts.clamp_min(0) + 0.375)


def box_sum(image: Tensor, size: int) -> Tensor:
    """Return the sum over a ``size`` x ``size`` box (odd), zero outside the image; image (n, channel, row, col)."""
    half = size // 2
    rows = F.avg_pool2d(image, (size, 1), stride=1, padding=(half, 0)) * size
    return F.avg_pool2d(rows, (1, size), stride=1, padding=(0, half)) * size


@dataclass(frozen=True, slots=True)
class Features:
    """Features of a stack of lines.

    Attributes
    ----------
    stack
        (batch, line, N_FEATURES, row, col) float32.
    base
        Local mean rate, 9 x 9 pixels with a weak prior at the line's mean, (batch, line, row, col), never 0.
    """

    stack: Tensor
    base: Tensor


def make_features(counts: Tensor, exposure: Tensor) -> Features:
    """Compute the network's input.

    Parameters
    ----------
    counts
        (batch, line, row, col), >= 0, 0 where exposure is 0.
    exposure
        Relative exposure of the same shape, about 1 where measured, 0 where not. ``counts ~ Poisson(exposure * rate)``.
    """
    total = counts.sum((-2, -1), keepdim=True)
    mean = (total + 0.5) / exposure.sum((-2, -1), keepdim=True).clamp_min(1e-6)
    sums, exposures = [counts], [exposure]
    for size in (FINE, MIDDLE, COARSE):
        sums.append(box_sum(counts, size))
        exposures.append(box_sum(exposure, size))
    # posterior means under a Gamma prior of shape 1 at the line's mean: finite where nothing was counted
    rates = [(s + 1.0) / (e + 1.0 / mean) for s, e in zip(sums[1:], exposures[1:], strict=True)]
    differences = [anscombe(sums[i]) - anscombe(exposures[i].clamp_min(0) * rates[i]) for i in range(3)]
    # the same two finest differences for the sum over lines: weak lines learn from strong ones
    expected = [(exposures[i] * rates[i]).sum(1, keepdim=True) for i in range(2)]
    summed = [anscombe(sums[i].sum(1, keepdim=True)) - anscombe(expected[i]) for i in range(2)]
    base = rates[1]
    level = torch.log(base)
    channels = [
        *(torch.asinh(d) for d in differences),
        *(torch.asinh(d).expand_as(counts) for d in summed),
        level * 0.25,
        level - torch.log(mean),
        torch.log(rates[0]) - level,
        exposure - 1.0,
    ]
    return Features(stack=torch.stack(channels, 2), base=base)
