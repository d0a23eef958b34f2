"""Narrowing a network: which channels are kept, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quietbeam_models.losses import line_loss
from quietbeam_models.network import Denoiser, NetworkConfig
from quietbeam_models.patches import Bank, Draws, PatchConfig
from quietbeam_models.pretrain import Hardware, pretrain
from quietbeam_models.pretrain_config import PretrainConfig
from quietbeam_models.pretraining import Pretraining
from quietbeam_models.pruning import group_sizes, layouts, prune
from quietbeam_models.weights import load_weights, save_weights

WIDE = NetworkConfig(
    widths=(16, 24), encoder_blocks=(1, 1), decoder_blocks=(1,), full_width=8, mix_heads=2, mix_dim=4, error_width=6
)
NARROW = NetworkConfig(
    widths=(8, 12), encoder_blocks=(1, 1), decoder_blocks=(1,), full_width=4, mix_heads=2, mix_dim=2, error_width=3
)


def losses(n: int = 2) -> list[Callable[[Denoiser], Tensor]]:
    torch.manual_seed(1)
    counts = torch.poisson(torch.full((1, 3, 16, 16), 4.0))
    ones = torch.ones_like(counts)
    return [lambda network: line_loss(network(counts, ones), counts, ones).mean()] * n


def test_layouts_name_every_convolution_with_its_size() -> None:
    network, sizes = Denoiser(WIDE), group_sizes(WIDE)
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    found = {layout.name: layout for layout in layouts(WIDE)}
    assert found.keys() == convolutions.keys()
    for name, conv in convolutions.items():
        for spans, channels in ((found[name].writes, conv.out_channels), (found[name].reads, conv.in_channels)):
            assert sum((sizes[group] if group else 1) * repeat for group, repeat in spans) == channels, name


def test_a_network_pruned_to_its_own_size_is_the_same() -> None:
    network = Denoiser(WIDE)
    same = prune(network, WIDE, losses())
    counts = torch.poisson(torch.full((1, 3, 16, 16), 4.0))
    torch.testing.assert_close(same(counts, torch.ones_like(counts)), network(counts, torch.ones_like(counts)))


def test_channels_without_effect_are_dropped_and_the_map_stays() -> None:
    network = Denoiser(WIDE)
    sizes, small_sizes = group_sizes(WIDE), group_sizes(NARROW)
    with torch.no_grad():  # every second channel of every group writes nothing and is read by nobody
        for layout in layouts(WIDE):
            conv = network.get_submodule(layout.name)
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            for axis, spans in ((0, layout.writes), (1, layout.reads)):
                start = 0
                for group, repeat in spans:
                    length = sizes[group] * repeat if group else repeat
                    index = torch.arange(length)
                    dead = start + index[(index // repeat) % 2 == 1] if group else index[:0]
                    conv.weight.index_fill_(axis, dead, 0.0)
                    if axis == 0:
                        conv.bias[dead] = 0.0
                    start += length
    assert all(2 * small_sizes[group] == size for group, size in sizes.items())
    pruned = prune(network, NARROW, losses())
    counts = torch.poisson(torch.full((1, 3, 16, 16), 4.0))
    torch.testing.assert_close(
        pruned(counts, torch.ones_like(counts)), network(counts, torch.ones_like(counts)), rtol=1e-4, atol=1e-5
    )


def test_a_network_of_another_plan_or_a_narrower_one_is_no_parent() -> None:
    with pytest.raises(ValueError, match="levels, blocks and heads"):
        prune(Denoiser(WIDE), NetworkConfig(widths=(8, 12, 16)), losses())
    with pytest.raises(ValueError, match="more channels than its parent"):
        prune(Denoiser(NARROW), WIDE, losses())


def test_targets_hold_the_share_of_the_teacher_and_batches_are_used_again() -> None:
    config = PretrainConfig(network=NARROW, patches=PatchConfig(pixels=4_096, bank=2), redraw=0.0)
    module, teacher = Pretraining(config), Denoiser(WIDE)
    module.learn_from(teacher)
    module._bank = Bank(config.patches)
    next(iter(Draws(module._bank)))
    batches = [module._taught_batch(2, 24, 24) for _ in range(6)]
    assert len({id(batch) for batch in batches}) == 4
    first = batches[0]
    with torch.no_grad():
        taught = first["exposure"] * teacher(first["counts"], first["exposure"])
    torch.testing.assert_close(
        first["target"], 0.25 * first["exposure"] * first["rate"] + 0.75 * taught, rtol=0.05, atol=0.05
    )


def test_a_narrow_network_is_trained_from_a_wide_parent_and_teacher(tmp_path: Path) -> None:
    card = {"config": {}, "curve": []}
    wide = str(save_weights(Denoiser(WIDE), tmp_path, "wide", card))
    config = PretrainConfig(network=NARROW, patches=PatchConfig(pixels=4_096, bank=2), budget_s=1.0, teacher=wide)
    threads = torch.get_num_threads()
    try:
        pretrain(
            config,
            work=tmp_path / "work",
            out=tmp_path,
            name="narrow",
            hardware=Hardware(device="cpu"),
            validate_every=10_000,
            parent=wide,
        )
    finally:
        torch.set_num_threads(threads)
    assert load_weights("narrow", tmp_path).network.config == NARROW
