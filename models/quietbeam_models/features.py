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


def box_sums(image: Tensor) -> list[Tensor]:
    """Return the sums over boxes of `FINE`, `MIDDLE` and `COARSE` pixels around each pixel, zero outside the image.

    Three boxes side by side in each direction make the next one, which is the same as one sum over the large box and
    takes a tenth of its time.

    Parameters
    ----------
    image
        (..., row, col).
    """
    rows, cols = image.shape[-2:]
    sums, edge, apart = F.pad(image, (COARSE // 2,) * 4), COARSE // 2, 1
    out = []
    for size in (FINE, MIDDLE, COARSE):
        for axis in (-2, -1):
            length = sums.shape[axis] - 2 * apart
            parts = [sums.narrow(axis, k * apart, length) for k in range(3)]
            sums = parts[0] + parts[1]
            sums += parts[2]
        edge -= apart
        apart = size
        out.append(sums[..., edge : edge + rows, edge : edge + cols])
    return out


def asinh(x: Tensor) -> Tensor:
    """Return asinh(x) within 1e-6, from functions that are vectorised on a CPU, as ``torch.asinh`` is not."""
    size = x.abs()
    return torch.copysign(torch.log(size + torch.sqrt(size * size + 1.0)), x)


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
    sums, exposures = [counts, *box_sums(counts)], [exposure, *box_sums(exposure)]
    # posterior means under a Gamma prior of shape 1 at the line's mean: finite where nothing was counted
    rates = [(s + 1.0) / (e + 1.0 / mean) for s, e in zip(sums[1:], exposures[1:], strict=True)]
    differences = [anscombe(sums[i]) - anscombe(exposures[i].clamp_min(0) * rates[i]) for i in range(3)]
    # the same two finest differences for the sum over lines: weak lines learn from strong ones
    expected = [(exposures[i] * rates[i]).sum(1, keepdim=True) for i in range(2)]
    summed = [anscombe(sums[i].sum(1, keepdim=True)) - anscombe(expected[i]) for i in range(2)]
    base = rates[1]
    level = torch.log(base)
    channels = [
        *(asinh(d) for d in differences),
        *(asinh(d).expand_as(counts) for d in summed),
        level * 0.25,
        level - torch.log(mean),
        torch.log(rates[0]) - level,
        exposure - 1.0,
    ]
    return Features(stack=torch.stack(channels, 2), base=base)
