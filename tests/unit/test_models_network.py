"""The network: lines in any order, any size and dose, nothing printed from one line into another."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from quietbeam_models.features import anscombe, asinh, box_sums, make_features
from quietbeam_models.losses import line_loss, poisson_deviance
from quietbeam_models.network import Denoiser, NetworkConfig
from quietbeam_models.optimizer import MuonAdamW, orthogonalise
from quietbeam_models.weights import load_weights

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network() -> Denoiser:
    return load_weights().network


def draw(rate: np.ndarray, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).poisson(rate).astype(np.float32))[None]


@torch.no_grad()
def test_exchanging_lines_exchanges_outputs(network: Denoiser) -> None:
    rate = np.random.default_rng(1).uniform(0.5, 9, (5, 1, 1)) * np.random.default_rng(2).uniform(0.2, 2, (5, 32, 32))
    x = draw(rate)
    order = [3, 0, 4, 2, 1]
    straight, mixed = network(x, torch.ones_like(x)), network(x[:, order], torch.ones_like(x))
    torch.testing.assert_close(straight[:, order], mixed, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(straight, mixed, rtol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 40), (2, 11, 11), (3, 33, 17), (40, 8, 16)])
@pytest.mark.parametrize("dose", [0.01, 3.0, 1e5])
def test_any_size_lines_and_dose_give_finite_positive_rates(network: Denoiser, shape: tuple, dose: float) -> None:
    x = draw(np.full(shape, dose))
    rate = network(x, torch.ones_like(x))
    assert rate.shape == x.shape
    assert bool(torch.isfinite(rate).all()) and float(rate.min()) > 0
    if x.sum() > 1000:
        assert float(rate.sum() / x.sum()) == pytest.approx(1, abs=0.1)


@torch.no_grad()
def test_unmeasured_pixels_are_the_same_as_no_pixels(network: Denoiser) -> None:
    x = draw(np.full((2, 32, 32), 4.0))
    exposure = torch.ones_like(x)
    x[..., 16:, :] = 0
    exposure[..., 16:, :] = 0
    whole, part = network(x, exposure), network(x[..., :16, :], exposure[..., :16, :])
    # the trunk's zero padding and a gap are not bit-equal, but the same estimate
    assert float((whole[..., :12, :] - part[..., :12, :]).abs().mean()) < 0.1 * 4.0


@torch.no_grad()
def test_flat_line_beside_structure_stays_flat(network: Denoiser) -> None:
    """Its correlation with the structured lines is what the same network gives without them."""
    stripes = np.where((np.arange(64) // 8) % 2 == 0, 40.0, 2.0)[None, None, :] * np.ones((3, 64, 64))
    beside, alone = [], []
    for seed in range(4):
        flat = draw(np.full((1, 64, 64), 5.0), seed + 50)
        x = torch.cat([draw(stripes, seed), flat], 1)
        with_others = network(x, torch.ones_like(x))[0, 3].numpy()
        without = network(flat, torch.ones_like(flat))[0, 0].numpy()
        pattern = stripes[0] - stripes[0].mean()
        beside.append((with_others * pattern).mean() / pattern.std())
        alone.append((without * pattern).mean() / pattern.std())
    # printed-through amplitude [counts] in a map of 5 counts
    assert abs(np.mean(beside)) < 0.08
    assert abs(np.mean(alone)) < 0.08


@torch.no_grad()
def test_high_dose_returns_about_the_input(network: Denoiser) -> None:
    rng = np.random.default_rng(3)
    rate = 2e4 * (1 + 0.5 * rng.random((2, 48, 48)))
    x = draw(rate)
    out = network(x, torch.ones_like(x))[0].numpy()
    assert ((out - rate) ** 2).mean() < 1.5 * ((x[0].numpy() - rate) ** 2).mean()


@torch.no_grad()
def test_beats_raw_by_far_at_low_dose(network: Denoiser) -> None:
    r, c = np.mgrid[0:64, 0:64]
    disc = np.where(np.hypot(r - 32, c - 32) < 18, 4.0, 0.5)
    x = draw(np.stack([disc, disc * 0.5 + 0.2]))
    out = network(x, torch.ones_like(x))[0].numpy()
    true = np.stack([disc, disc * 0.5 + 0.2])
    assert ((x[0].numpy() - true) ** 2).mean() > 8 * ((out - true) ** 2).mean()


def test_features_have_unit_noise_at_every_dose() -> None:
    for dose in (3.0, 300.0, 3e4):
        x = draw(np.full((1, 96, 96), dose))
        stack = torch.sinh(make_features(x, torch.ones_like(x)).stack)[0, 0]
        inside = (slice(16, -16), slice(16, -16))
        assert float(stack[0][inside].std()) == pytest.approx(1, abs=0.15)
        assert float(anscombe(x).std()) == pytest.approx(1, abs=0.1)


def test_box_sums_count_every_pixel_once() -> None:
    image = torch.rand(2, 3, 40, 9)
    for size, found in zip((3, 9, 27), box_sums(image), strict=True):
        expected = F.avg_pool2d(image, size, stride=1, padding=size // 2) * size**2
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_asinh_is_that_of_torch() -> None:
    x = torch.cat([torch.logspace(-6, 5, 200), -torch.logspace(-6, 5, 200), torch.zeros(1)])
    torch.testing.assert_close(asinh(x), torch.asinh(x), rtol=1e-5, atol=1e-6)


def test_losses_are_least_at_the_mean_of_the_target() -> None:
    target = torch.poisson(torch.full((1, 1, 64, 64), 3.0))
    ones = torch.ones_like(target)
    at = [float(line_loss(ones * m, target, ones)) for m in (2.7, float(target.mean()), 3.3)]
    assert at[1] < at[0] and at[1] < at[2]
    assert float(poisson_deviance(target.clamp_min(1e-9), target, ones).abs().max()) < 1e-5


def test_muon_direction_is_orthogonal_and_training_learns() -> None:
    q = orthogonalise(torch.randn(16, 40))
    singular = torch.linalg.svdvals(q)
    assert float(singular.min()) > 0.5 and float(singular.max()) < 1.5
    torch.manual_seed(0)
    net = Denoiser(NetworkConfig(widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1,), full_width=4, mix_heads=1))
    optimizer = MuonAdamW(net.parameters(), lr=2e-3, muon_lr=0.01)
    rate = 1 + 5 * (torch.arange(16) % 8 < 4).float().expand(2, 2, 16, 16).contiguous()
    losses = []
    for _ in range(40):
        x = torch.poisson(rate)
        loss = line_loss(net(x, torch.ones_like(x)), rate, torch.ones_like(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.4 * losses[0]
