"""Weights are verified, specimens are sane, pretraining resumes."""

import json
import shutil

import numpy as np
import pytest
import torch

from quietbeam_models import weights
from quietbeam_models.network import NetworkConfig
from quietbeam_models.patches import Bank, Draws, PatchConfig
from quietbeam_models.pretrain import Hardware, pretrain
from quietbeam_models.pretrain_config import PretrainConfig, learning_progress
from quietbeam_models.pretraining import Pretraining
from quietbeam_models.specimens import make_scene
from quietbeam_models.specimens.scene import MAKERS

CPU = Hardware(device="cpu")
TINY = NetworkConfig(widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1,), full_width=4, mix_heads=1)


def test_shipped_weights_match_their_card() -> None:
    loaded = weights.load_weights()
    assert loaded.card["sha256"] == loaded.sha256
    assert loaded.card["minutes"] > 0 and loaded.card["curve"]
    assert (weights.FOLDER / f"{loaded.name}.safetensors").stat().st_size < 20e6


@pytest.mark.parametrize("damage", ["bytes", "missing", "format", "card"])
def test_damaged_weights_are_refused(tmp_path, damage: str) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(weights.FOLDER / f"{weights.DEFAULT}{suffix}", tmp_path)
    path, card = tmp_path / f"{weights.DEFAULT}.safetensors", tmp_path / f"{weights.DEFAULT}.json"
    if damage == "bytes":
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    elif damage == "missing":
        path.unlink()
    elif damage == "format":
        card.write_text(json.dumps(json.loads(card.read_text()) | {"format": 99}))
    else:
        card.write_text("{")
    with pytest.raises(weights.DamagedWeightsError):
        weights.load_weights(folder=tmp_path)


def test_weights_of_ones_own_are_found_beside_the_shipped_ones(tmp_path) -> None:
    for name in ("mine", weights.DEFAULT):
        for suffix in (".safetensors", ".json"):
            shutil.copy(weights.FOLDER / f"{weights.DEFAULT}{suffix}", tmp_path / f"{name}{suffix}")
    there = weights.installed_weights(tmp_path)
    assert set(there) == {"mine", *weights.available()}
    assert weights.load_weights(there["mine"]).name == "mine"
    assert there[weights.DEFAULT] == weights.DEFAULT, "a shipped name means the shipped weights"


@pytest.mark.parametrize("maker", [m for m, _ in MAKERS], ids=lambda m: m.__name__)
def test_structures_are_finite_and_not_negative(maker) -> None:
    image = maker(np.random.default_rng(4), 64)
    assert image.shape == (64, 64) and image.dtype == np.float32
    assert np.isfinite(image).all() and image.min() >= 0


@pytest.mark.parametrize("targets", ["expectation", "counts"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_counts_of_their_rates(targets: str, workers: int) -> None:
    scene = make_scene(np.random.default_rng(0), 64, 6)
    np.testing.assert_allclose(scene.rates.mean((1, 2)), 1, rtol=1e-3)
    torch.manual_seed(0)
    bank = Bank(PatchConfig(pixels=20_000, bank=3, size=128, workers=workers, targets=targets))
    draws = iter(Draws(bank))
    for lines, rows, cols in (next(draws) for _ in range(4)):
        batch = bank.draw(lines, rows, cols)
        assert {value.shape[1:] for value in batch.values()} == {(lines, rows, cols)}
        expected = (batch["rate"] * batch["exposure"]).double()
        # chi-square per pixel of what must be Poisson counts, where there are enough of them
        enough = expected > 5
        for drawn in ("counts", "target"):
            chi = ((batch[drawn] - expected) ** 2 / expected)[enough]
            exact = drawn == "target" and targets == "expectation"
            if enough.sum() > 1000:
                assert float(chi.mean()) == pytest.approx(0 if exact else 1, abs=0.2)
        assert bool((batch["counts"][batch["exposure"] == 0] == 0).all())
    draws.close()
    assert len(bank) == 3


def test_a_batch_whose_loss_explodes_changes_nothing() -> None:
    config = PretrainConfig(network=TINY, patches=PatchConfig(pixels=4096, bank=1, size=128))
    torch.manual_seed(0)
    module = Pretraining(config)
    module.configure_optimizers()
    module._bank = bank = Bank(config.patches)
    next(iter(Draws(bank)))
    module.manual_backward = lambda loss: loss.backward()
    module._train_step(2, 24, 24)
    before = [p.clone() for p in module.network.parameters()]
    module._optimizer.forget()
    module.network.head.bias.data[0] = torch.nan
    before[[n for n, _ in module.network.named_parameters()].index("head.bias")] = module.network.head.bias.clone()
    module._train_step(2, 24, 24)
    assert (int(module.counted), int(module.skipped), int(module.in_a_row)) == (1, 1, 1)
    for old, new in zip(before, module.network.parameters(), strict=True):
        torch.testing.assert_close(new, old, equal_nan=True, rtol=0.01, atol=1e-3)


def test_the_learning_rate_reaches_its_end() -> None:
    assert learning_progress(0.001) < 0.2
    assert learning_progress(0.1) == 1.0
    assert learning_progress(1.0) < 0.01


def test_pretraining_resumes_and_exports(tmp_path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for budget in (1.0, 1.5):
            config = PretrainConfig(network=TINY, patches=PatchConfig(pixels=4096, bank=2, size=160), budget_s=budget)
            pretrain(config, work=tmp_path / "work", out=tmp_path, name="tiny", hardware=CPU, validate_every=10_000)
            card = json.loads((tmp_path / "tiny.json").read_text())
            assert card["minutes"] == pytest.approx(budget / 60, abs=0.06)
    finally:
        torch.set_num_threads(threads)
    assert weights.load_weights("tiny", tmp_path).network.config == TINY
