"""Muon for matrices and convolutions, AdamW for the rest, as one optimizer.

Muon (Jordan et al. 2024) replaces the momentum of a weight matrix by its nearest orthogonal matrix, found by five
Newton-Schulz steps. Measured here it needs about half of AdamW's steps for the same loss (docs/notes/science.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


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


def _native_bf16(matrix: Tensor) -> bool:
    return matrix.is_cuda or (matrix.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())


class MuonAdamW(torch.optim.Optimizer):
    """Muon where a parameter has two or more axes, AdamW elsewhere.

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

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                self._muon(params, group)
            else:
                for p in params:
                    self._adamw(p, group)
        return loss

    def _muon(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        alike = defaultdict(list)  # matrices of one shape are orthogonalised together: fewer, larger products
        for p in params:
            assert p.grad is not None
            buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buffer.lerp_(p.grad, 1.0 - group["momentum"])
            alike[len(p), p[0].numel()].append((p, p.grad.lerp(buffer, group["momentum"])))
        for (out, inner), pairs in alike.items():
            matrices = torch.stack([nesterov.reshape(out, inner) for _, nesterov in pairs])
            directions = orthogonalise(matrices, low_precision=_native_bf16(matrices)) * max(1.0, out / inner) ** 0.5
            for (p, _), direction in zip(pairs, directions, strict=True):
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
                p.add_(direction.reshape(p.shape), alpha=-group["lr"])

    def _adamw(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(p.grad, 1.0 - first)
        state["square"].lerp_(p.grad.square(), 1.0 - second)
        mean = state["mean"] / (1.0 - first ** state["step"])
        square = state["square"] / (1.0 - second ** state["step"])
        p.add_(mean / (square.sqrt() + 1e-8), alpha=-group["lr"])
