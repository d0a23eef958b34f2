"""Narrow a trained network: keep the channels that matter, so that training of a small network starts near its end.

Channels that are added to each other (the stream of a level, with its skip) are kept or dropped together. A channel's
importance is the change of the loss to first order when it is set to 0 (Molchanov et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quietbeam_models.features import N_FEATURES
from quietbeam_models.network import Denoiser, NetworkConfig, Stage

Spans = tuple[tuple[str, int], ...]
"""Groups of channels along one axis of a convolution, each with the number of entries per channel."""


@dataclass(frozen=True, slots=True)
class ConvLayout:
    """Which groups of channels a convolution writes and reads."""

    name: str
    writes: Spans
    reads: Spans


def group_sizes(config: NetworkConfig) -> dict[str, int]:
    """Return the number of channels of each group that can be narrowed."""
    sizes = dict.fromkeys(("thin", "left", "refined", "last"), config.full_width)
    sizes["error"] = config.error_width
    for side, blocks in (("encoder", config.encoder_blocks), ("decoder", config.decoder_blocks)):
        for i, n in enumerate(blocks):
            sizes[f"level{i}"] = config.widths[i]
            sizes |= {f"{side}{i}.{b}": config.widths[i] for b in range(n)}
            sizes |= {f"{side}{i}.{part}": config.mix_heads * config.mix_dim for part in ("keys", "values")}
    return sizes


def layouts(config: NetworkConfig) -> Iterator[ConvLayout]:
    """Yield the layout of every convolution of the network."""
    yield ConvLayout("stem", (("thin", 1),), (("", N_FEATURES),))
    yield ConvLayout("enter", (("level0", 1),), (("thin", 4),))
    for side, blocks in (("encoder", config.encoder_blocks), ("decoder", config.decoder_blocks)):
        for i, n in enumerate(blocks):
            level, keys, values = ((group, 1) for group in (f"level{i}", f"{side}{i}.keys", f"{side}{i}.values"))
            for b in range(n):
                yield ConvLayout(f"{side}.{i}.blocks.{b}.first", ((f"{side}{i}.{b}", 1),), (level,))
                yield ConvLayout(f"{side}.{i}.blocks.{b}.second", (level,), ((f"{side}{i}.{b}", 1),))
            yield ConvLayout(f"{side}.{i}.mix.project", (keys, keys, values, values), (level,))
            yield ConvLayout(f"{side}.{i}.mix.back", (level,), (values,))
    for i in range(len(config.widths) - 1):
        yield ConvLayout(f"down.{i}", ((f"level{i + 1}", 1),), ((f"level{i}", 1),))
        yield ConvLayout(f"up.{i}", ((f"level{i}", 4),), ((f"level{i + 1}", 1),))
    yield ConvLayout("leave", (("left", 4),), (("level0", 1),))
    both = (("left", 1), ("thin", 1))
    yield ConvLayout("refine.0", (("refined", 1),), both)
    yield ConvLayout("refine.1", (("last", 1),), (("refined", 1),))
    yield ConvLayout("head", (("", 3),), (("last", 1),))
    if config.error_width:
        yield ConvLayout("error_head.0", (("error", 1),), both)
        yield ConvLayout("error_head.1", (("", 1),), (("error", 1),))


def prune(network: Denoiser, config: NetworkConfig, losses: Iterable[Callable[[Denoiser], Tensor]]) -> Denoiser:
    """Return a network of size ``config`` made of the most important channels of ``network``.

    Parameters
    ----------
    losses
        Each takes the network and returns a scalar loss: what the importance is measured on, a few dozen batches.

    Raises
    ------
    ValueError
        When ``config`` has other levels, blocks or heads than the network, or more channels.
    """
    old = network.config
    same = ("encoder_blocks", "decoder_blocks", "mix_heads")
    if len(config.widths) != len(old.widths) or any(getattr(config, name) != getattr(old, name) for name in same):
        raise ValueError("a pruned network keeps the levels, blocks and heads of its parent")
    wanted, present = group_sizes(config), group_sizes(old)
    if too_wide := [name for name, size in wanted.items() if size > present[name]]:
        raise ValueError(f"a pruned network cannot have more channels than its parent: {', '.join(too_wide)}")
    importance = _importance(network, losses)
    kept = {}
    for name, size in wanted.items():
        # every head of the mixing keeps as many channels as the others
        heads = old.mix_heads if name.endswith((".keys", ".values")) else 1
        best = importance[name].reshape(heads, -1).argsort(1, descending=True)[:, : size // heads].sort(1).values
        kept[name] = (best + torch.arange(heads)[:, None] * (present[name] // heads)).flatten()
    return _sliced(network, Denoiser(config), kept)


def _importance(network: Denoiser, losses: Iterable[Callable[[Denoiser], Tensor]]) -> dict[str, Tensor]:
    """Return the importance of every channel by group."""
    scores = {name: torch.zeros(size) for name, size in group_sizes(network.config).items()}
    for loss in losses:
        network.zero_grad()
        loss(network).backward()
        for layout in layouts(network.config):
            conv = network.get_submodule(layout.name)
            assert isinstance(conv, nn.Conv2d)
            if conv.weight.grad is None:  # the mixing of a batch of one line
                continue
            change = (conv.weight.detach() * conv.weight.grad).cpu()
            for spans, total in ((layout.writes, change.sum((1, 2, 3))), (layout.reads, change.sum((0, 2, 3)))):
                for (group, repeat), part in zip(spans, total.split(_lengths(spans, scores)), strict=True):
                    if group:
                        scores[group] += part.reshape(-1, repeat).sum(1).square()
    network.zero_grad()
    return scores


def _lengths(spans: Spans, channels: dict[str, Tensor]) -> list[int]:
    return [len(channels[group]) * repeat if group else repeat for group, repeat in spans]


def _sliced(network: Denoiser, small: Denoiser, kept: dict[str, Tensor]) -> Denoiser:
    sizes = {name: torch.empty(size) for name, size in group_sizes(network.config).items()}

    def places(spans: Spans) -> Tensor:
        found, start = [], 0
        for (group, repeat), length in zip(spans, _lengths(spans, sizes), strict=True):
            index = torch.arange(repeat) if not group else _repeated(kept[group], repeat)
            found.append(start + index)
            start += length
        return torch.cat(found)

    with torch.no_grad():
        for layout in layouts(network.config):
            source, target = network.get_submodule(layout.name), small.get_submodule(layout.name)
            assert isinstance(source, nn.Conv2d) and isinstance(target, nn.Conv2d)
            assert source.bias is not None and target.bias is not None
            writes, reads = places(layout.writes), places(layout.reads)
            target.weight.copy_(source.weight[writes][:, reads])
            target.bias.copy_(source.bias[writes])
        for old, new in zip(network.modules(), small.modules(), strict=True):
            if isinstance(old, Stage) and isinstance(new, Stage):
                new.mix.sharpness.copy_(old.mix.sharpness)
    return small


def _repeated(channels: Tensor, repeat: int) -> Tensor:
    return (channels[:, None] * repeat + torch.arange(repeat)).flatten()
