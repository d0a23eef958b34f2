"""The network: one set of weights for any number and order of lines, any dose and any size of map.

A U-Net whose trunk runs at half resolution, the same for every line, with attention between lines in
:class:`LineMix`. A thin branch at full resolution carries single pixels and filaments past the trunk.
Two experts make the rate: a bounded log ratio to a local mean (right at low counts) and a noise estimate that is taken
away from the Anscombe-transformed counts (exact at high counts, where its absence returns the raw counts).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quietbeam_models.features import N_FEATURES, anscombe, make_features

MAX_LOG_RATIO = 7.0
MAX_NOISE = 8.0
MAX_LOG_SPREAD = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Size of the network; travels with its weights.

    Attributes
    ----------
    widths
        Channels at 1/2, 1/4, 1/8, ... resolution.
    encoder_blocks, decoder_blocks
        Residual blocks per level; the decoder has one level less.
    full_width
        Channels of the branch at full resolution.
    mix_heads, mix_dim
        Heads of the mixing between lines and channels of each.
    error_width
        Channels of the head that estimates the squared error of the rate; 0: no such head.
    """

    widths: tuple[int, ...] = (80, 128, 192, 256)
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 2)
    decoder_blocks: tuple[int, ...] = (2, 2, 1)
    full_width: int = 24
    mix_heads: int = 4
    mix_dim: int = 12
    error_width: int = 16

    @property
    def multiple(self) -> int:
        """Rows and columns are padded to a multiple of this."""
        return 2 ** len(self.widths)

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, object]) -> NetworkConfig:
        """Build from :meth:`to_dict`."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})  # type: ignore[arg-type]


def native_bf16(device: torch.device) -> bool:
    """Return True where bf16 is computed natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _channels_last(x: Tensor) -> Tensor:
    """Return x in the layout of the convolutions: one operand in another one makes every addition after it slow."""
    return x.contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class LineMix(nn.Module):
    """Attention between lines: each line adds features of the lines that share its structure.

    Whether two lines share structure is judged over the whole map, by the correlation of learned features (attention
    whose scores are pooled over pixels): a single pixel's chance coincidence cannot print one line into another. How
    much is added at each pixel is a gate of the line itself. A null answer of score 0 competes, so that a line may add
    nothing.
    """

    def __init__(self, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        inner = heads * dim
        self.project = nn.Conv2d(width, 4 * inner, 1)
        self.back = nn.Conv2d(inner, width, 1)
        self.sharpness = nn.Parameter(torch.full((heads,), 4.0))

    def forward(self, x: Tensor, lines: int) -> Tensor:
        """Mix x (batch * line, channel, row, col)."""
        if lines == 1:
            return x
        n, channels, rows, cols = x.shape
        inner, pixels = self.heads * self.dim, rows * cols
        # products instead of 1 x 1 convolutions: they write the layout that the next product reads
        flat = x.permute(0, 2, 3, 1).reshape(n, pixels, channels)
        weight, bias = self.project.weight.flatten(1), self.project.bias
        assert bias is not None and self.back.bias is not None
        projected = torch.matmul(weight, flat.mT) + bias[:, None].to(flat.dtype)
        query, key, value, gate = projected.split(inner, 1)
        weights = self._weights(query, key, lines).to(value.dtype)
        value = value.reshape(n // lines, lines * self.heads, self.dim * pixels)
        mixed = torch.bmm(weights, value).view(n, inner, pixels) * torch.sigmoid(gate)
        added = torch.matmul(mixed.mT, self.back.weight.flatten(1).mT) + self.back.bias.to(mixed.dtype)
        return x + added.view(n, rows, cols, channels).permute(0, 3, 1, 2)

    def _weights(self, query: Tensor, key: Tensor, lines: int) -> Tensor:
        """Return how much each line and head takes of each other, (batch, line * head, line * head); 0 across heads.

        Query and key are (batch * line, head * dim, pixel).
        """
        with torch.autocast(query.device.type, enabled=False):
            (query, query_norm), (key, key_norm) = self._centred(query, lines), self._centred(key, lines)
            scores = torch.bmm(query, key.mT) / (query_norm[:, :, None] * key_norm[:, None])
            scores = scores.unflatten(2, (lines, self.heads)).unflatten(1, (lines, self.heads))
            scores = scores.diagonal(dim1=2, dim2=4).permute(0, 3, 1, 2) * self.sharpness[:, None, None]
            itself = torch.eye(lines, dtype=torch.bool, device=query.device)
            scores = scores.masked_fill(itself, float("-inf"))
            weights = torch.softmax(F.pad(scores, (0, 1)), -1)[..., :-1]  # batch, head, line, line
            same_head = torch.eye(self.heads, device=query.device)
            return torch.einsum("bhlm,hg->blhmg", weights, same_head).flatten(3).flatten(1, 2)

    def _centred(self, x: Tensor, lines: int) -> tuple[Tensor, Tensor]:
        """Centre over pixels; return (batch, line * head, dim * pixel) float32 and its norm (batch, line * head)."""
        x = x.float()
        x = x - x.mean(-1, keepdim=True)
        x = x.reshape(x.shape[0] // lines, lines * self.heads, -1)
        return x, torch.linalg.vector_norm(x, dim=-1).clamp_min(1e-4)


class Stage(nn.Module):
    """Residual blocks of one level, then mixing between lines."""

    def __init__(self, width: int, blocks: int, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.mix = LineMix(width, config.mix_heads, config.mix_dim)

    def forward(self, x: Tensor, lines: int) -> Tensor:
        """Return the stage's output, same shape; mixing comes after the first block."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == 0:
                x = self.mix(x, lines)
        return x


class Denoiser(nn.Module):
    """Estimate rates from counts.

    ``forward(counts, exposure)`` takes (batch, line, row, col) arrays; see :func:`make_features`.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        widths, full = config.widths, config.full_width
        self.stem = nn.Conv2d(N_FEATURES, full, 3, padding=1)
        self.enter = nn.Conv2d(4 * full, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(Stage(w, b, config) for w, b in zip(widths, config.encoder_blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(
            Stage(w, b, config) for w, b in zip(widths[:-1], config.decoder_blocks, strict=True)
        )
        self.leave = nn.Conv2d(widths[0], 4 * full, 1)
        self.refine = nn.ModuleList([nn.Conv2d(2 * full, full, 3, padding=1), nn.Conv2d(full, full, 3, padding=1)])
        self.head = nn.Conv2d(full, 3, 3, padding=1)
        self.error_head = (
            nn.ModuleList([nn.Conv2d(2 * full, config.error_width, 3, padding=1), nn.Conv2d(config.error_width, 1, 1)])
            if config.error_width
            else None
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    module.second.weight.mul_(0.2)
                elif isinstance(module, LineMix):
                    module.back.weight.mul_(0.2)
            self.head.weight.mul_(0.05)

    def forward(self, counts: Tensor, exposure: Tensor) -> Tensor:
        """Return the rate, (batch, line, row, col) float32 [counts per pixel at exposure 1], > 0."""
        return self.estimate(counts, exposure)[0]

    def estimate(self, counts: Tensor, exposure: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the rate as :meth:`forward` does, and its expected squared error, or None without an error head."""
        batch, lines, rows, cols = counts.shape
        multiple = self.config.multiple
        pad = (0, -cols % multiple, 0, -rows % multiple)
        counts, exposure = F.pad(counts.float(), pad), F.pad(exposure.float(), pad)
        with torch.autocast(counts.device.type, enabled=False):
            features = make_features(counts, exposure)
        x = features.stack.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        out, spread = self.trunk(x, lines)
        with torch.autocast(counts.device.type, enabled=False):
            rate = self.combine(out.float().unflatten(0, (batch, lines)), counts, exposure, features.base)
        rate = rate[..., :rows, :cols]
        if spread is None:
            return rate, None
        # in units of a raw pixel's variance, which is its rate
        ratio = torch.exp(MAX_LOG_SPREAD * torch.tanh(spread.unflatten(0, (batch, lines))[:, :, 0] / MAX_LOG_SPREAD))
        return rate, (features.base * ratio)[..., :rows, :cols]

    def trunk(self, x: Tensor, lines: int) -> tuple[Tensor, Tensor | None]:
        """Map features (batch * line, feature, row, col) to the three head channels and the error channel."""
        thin = self.stem(x)
        x = self.enter(_channels_last(F.pixel_unshuffle(F.relu(thin), 2)))
        skips = []
        for i, stage in enumerate(self.encoder):
            x = stage(x, lines)
            if i < len(self.down):
                skips.append(x)
                x = self.down[i](x)
        for i in reversed(range(len(self.decoder))):
            x = _channels_last(F.pixel_shuffle(self.up[i](x), 2)) + skips[i]
            x = self.decoder[i](x, lines)
        x = _channels_last(F.pixel_shuffle(self.leave(F.relu(x)), 2))
        x = torch.cat([x, thin], 1)
        x = F.relu(x)
        spread = None
        if self.error_head is not None:
            spread = self.error_head[1](F.relu(self.error_head[0](x))).float()
        x = self.refine[1](F.relu(self.refine[0](x)))
        with torch.autocast(x.device.type, enabled=False):
            return self.head(F.relu(x).float()), spread

    @staticmethod
    def combine(out: Tensor, counts: Tensor, exposure: Tensor, base: Tensor) -> Tensor:
        """Combine the two experts; out (batch, line, 3, row, col) float32."""
        ratio, noise, choice = out.unbind(2)
        low = base * torch.exp(MAX_LOG_RATIO * torch.tanh(ratio / MAX_LOG_RATIO))
        root = anscombe(counts) - MAX_NOISE * torch.tanh(noise / MAX_NOISE)
        high = (0.25 * root.clamp_min(0) ** 2 - 0.375).clamp_min(0) / exposure.clamp_min(1e-3)
        # half and half at 30 counts until the network learns better; unmeasured pixels have the first expert only
        share = torch.sigmoid(4.0 * choice + torch.log(base / 30.0).clamp(-6, 6)) * (exposure > 0)
        return torch.lerp(low, high, share).clamp_min(1e-7)
