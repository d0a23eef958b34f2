"""Muon for matrices and convolutions, AdamW for the rest, as one optimizer.

Muon (Jordan et al. 2024) replaces the momentum of a weight matrix by its nearest orthogonal matrix, found by five
Newton-Schulz steps. Measured here it needs about half of AdamW's steps for the same loss (docs/notes/science.md).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from quietbeam_models.network import native_bf16


def orthogonalise(matrix: Tensor, steps: int = 5, low_precision: bool = False) -> Tensor:
    """Return the approximate orthogonal factor of ``matrix`` (..., out, in).

    bf16 is precise enough, and half the time where it is native.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    x = x.to(torch.bfloat16) if low_precision else x
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Muon where a parameter has two or more axes, AdamW elsewhere.

    A step works in place on tensors of the parameters' device and reads no value of them, so that it may be part of
    a CUDA graph.

    Parameters
    ----------
    lr
        Learning rate of AdamW's part.
    muon_lr
        Learning rate of Muon's part, in spectral norm per step (before the shape factor).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 2e-3,
        muon_lr: float = 0.02,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        params = list(params)
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "muon": False}
        matrices = [p for p in params if p.ndim >= 2]
        others = [p for p in params if p.ndim < 2]
        groups: list[dict[str, Any]] = []
        if matrices:
            groups.append({"params": matrices, "lr": muon_lr, "muon": True})
        if others:
            groups.append({"params": others})
        super().__init__(groups, defaults)
        self.factor = torch.ones((), device=params[0].device)
        """Factor of both learning rates: change it in place."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if params:
                update = self._muon if group["muon"] else self._adamw
                update(params, [p.grad for p in params if p.grad is not None], group)
        return loss

    def forget(self) -> None:
        """Set momenta and squares to 0, in place."""
        for state in self.state.values():
            for value in state.values():
                value.zero_()

    def _muon(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        buffers = [self._state(p, "momentum") for p in params]
        torch._foreach_lerp_(buffers, grads, 1.0 - group["momentum"])
        nesterovs = torch._foreach_lerp(grads, buffers, group["momentum"])
        rate = group["lr"] * self.factor
        torch._foreach_mul_(params, 1.0 - rate * group["weight_decay"])
        by_shape = defaultdict(list)  # matrices of one shape are orthogonalised together: fewer, larger products
        for p, nesterov in zip(params, nesterovs, strict=True):
            by_shape[len(p), p[0].numel()].append((p, nesterov))
        for (out, inner), pairs in by_shape.items():
            matrices = torch.stack([nesterov.reshape(out, inner) for _, nesterov in pairs])
            directions = orthogonalise(matrices, low_precision=native_bf16(matrices.device))
            directions = directions * (rate * max(1.0, out / inner) ** 0.5)
            for (p, _), direction in zip(pairs, directions, strict=True):
                p.sub_(direction.reshape(p.shape))

    def _adamw(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        means, squares = ([self._state(p, name) for p in params] for name in ("mean", "square"))
        steps = self.state[params[0]].setdefault("taken", torch.zeros((), device=params[0].device))
        steps += 1
        first, second = group["betas"]
        torch._foreach_lerp_(means, grads, 1.0 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, grads, grads, 1.0 - second)
        roots = torch._foreach_sqrt(torch._foreach_mul(squares, 1.0 / (1.0 - torch.exp(math.log(second) * steps))))
        torch._foreach_add_(roots, 1e-8)
        updates = torch._foreach_div(means, roots)
        torch._foreach_mul_(updates, group["lr"] * self.factor / (1.0 - torch.exp(math.log(first) * steps)))
        torch._foreach_sub_(params, updates)

    def _state(self, p: Tensor, name: str) -> Tensor:
        state: dict[str, Tensor] = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        return state[name]
