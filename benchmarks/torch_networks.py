"""The U-Net of DDPM and DiT in the usual style of PyTorch, with the layers, names and sizes of the Flax modules."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def sinusoidal(values: torch.Tensor, width: int) -> torch.Tensor:
    """Returns the sinusoidal embedding [B, width] of values [B]."""
    frequencies = torch.exp(torch.linspace(0, -math.log(10_000), width // 2, device=values.device))
    angles = values[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def conv(n: int, m: int, size: int = 3, **settings) -> nn.Conv2d:
    """Returns a convolution that keeps height and width.

    Args:
      n: input channels.
      m: output channels.
      size: odd side of the kernel, in pixels.
      settings: other arguments of nn.Conv2d.
    """
    return nn.Conv2d(n, m, size, padding=size // 2, **settings)


def norm(width: int) -> nn.GroupNorm:
    """Returns the group normalisation of `width` channels."""
    return nn.GroupNorm(min(32, width // 4), width, eps=1e-6)


class Attention(nn.Module):
    """Multi-head self-attention over tokens [B, T, width]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query_key_value, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.output(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A residual block from n to m channels, with attention if `attend`."""

    def __init__(self, n: int, m: int, attend: bool, embedding: int, heads: int, dropout: float):
        super().__init__()
        self.normalization_0, self.convolution_0, self.embedding = norm(n), conv(n, m), nn.Linear(embedding, m)
        self.normalization_1, self.convolution_1, self.dropout = norm(m), conv(m, m), nn.Dropout(dropout)
        self.shortcut = conv(n, m, 1) if n != m else nn.Identity()
        self.attend = attend
        if attend:
            self.attention_normalization, self.attention = norm(m), Attention(m, heads)

    def forward(self, x, embedding):
        h = self.convolution_0(F.silu(self.normalization_0(x))) + self.embedding(embedding)[:, :, None, None]
        x = self.shortcut(x) + self.convolution_1(self.dropout(F.silu(self.normalization_1(h))))
        if not self.attend:
            return x
        tokens = self.attention_normalization(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class UNet(nn.Module):
    """Predicts noise from images [B, C, H, W] and levels [B].

    side: H, pixels. The other arguments are as for `genlab.networks.diffusion.unet.UNet`.
    """

    def __init__(
        self, channels, side, width=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), heads=1, dropout=0.1
    ):
        super().__init__()
        self.width, self.multipliers, self.blocks = width, multipliers, blocks
        self.level_0, self.level_1 = nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)
        block = lambda n, m, attend: Block(n, m, attend, 4 * width, heads, dropout)
        self.input, n, skips = conv(channels, width), width, [width]
        for i, m in enumerate(width * multiplier for multiplier in multipliers):
            if i:
                self.add_module(f'down_{i}', nn.Conv2d(n, n, 3, stride=2))
                skips.append(n)
            for j in range(blocks):
                self.add_module(f'down_{i}_{j}', block(n, m, side >> i in attention))
                skips.append(n := m)
        self.middle_0, self.middle_1 = block(n, n, True), block(n, n, False)
        for i, m in reversed([*enumerate(width * multiplier for multiplier in multipliers)]):
            for j in range(blocks + 1):
                self.add_module(f'up_{i}_{j}', block(n + skips.pop(), m, side >> i in attention))
                n = m
            if i:
                self.add_module(f'up_{i}', conv(n, n))
        self.normalization, self.output = norm(n), conv(n, channels)

    def forward(self, x, level):
        embedding = F.silu(self.level_1(F.silu(self.level_0(sinusoidal(level, self.width)))))
        x = self.input(x)
        skips = [x]
        for i in range(len(self.multipliers)):
            if i:
                skips.append(x := getattr(self, f'down_{i}')(F.pad(x, (0, 1, 0, 1))))
            for j in range(self.blocks):
                skips.append(x := getattr(self, f'down_{i}_{j}')(x, embedding))
        x = self.middle_1(self.middle_0(x, embedding), embedding)
        for i in reversed(range(len(self.multipliers))):
            for j in range(self.blocks + 1):
                x = getattr(self, f'up_{i}_{j}')(torch.cat([x, skips.pop()], 1), embedding)
            if i:
                x = getattr(self, f'up_{i}')(F.interpolate(x, scale_factor=2, mode='nearest'))
        return self.output(F.silu(self.normalization(x)))


class DiTBlock(nn.Module):
    """A transformer block with adaptive layer normalisation."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width, 1e-6, elementwise_affine=False), Attention(width, heads)
        self.hidden, self.hidden_output = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x, condition):
        shift, scale, gate, late_shift, late_scale, late_gate = self.modulation(condition)[:, None].chunk(6, -1)
        x = x + gate * self.attention(self.norm(x) * (1 + scale) + shift)
        hidden = F.gelu(self.hidden(self.norm(x) * (1 + late_scale) + late_shift), approximate='tanh')
        return x + late_gate * self.hidden_output(hidden)


class DiT(nn.Module):
    """Predicts noise from images [B, C, H, H], levels [B] and labels [B].

    side: H, pixels. The other arguments are as for `genlab.networks.diffusion.dit.DiT`.
    """

    def __init__(self, channels, side, patch, width, depth, heads, classes):
        super().__init__()
        self.patch, self.side = patch, side // patch
        self.level_0, self.level_1 = nn.Linear(256, width), nn.Linear(width, width)
        self.labels, self.patches = nn.Embedding(classes + 1, width), nn.Linear(patch**2 * channels, width)
        self.register_buffer('positions', torch.randn(1, self.side**2, width))  # the values do not affect the time
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.output_norm = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.output_modulation, self.output = nn.Linear(width, 2 * width), nn.Linear(width, patch**2 * channels)

    def forward(self, x, level, labels):
        condition = F.silu(self.level_1(F.silu(self.level_0(sinusoidal(level, 256)))) + self.labels(labels))
        x = x.unflatten(3, (self.side, self.patch)).unflatten(2, (self.side, self.patch)).permute(0, 2, 4, 3, 5, 1)
        x = self.patches(x.flatten(3).flatten(1, 2)) + self.positions
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.output_modulation(condition)[:, None].chunk(2, -1)
        x = self.output(self.output_norm(x) * (1 + scale) + shift).unflatten(2, (self.patch, self.patch, -1))
        x = x.unflatten(1, (self.side, self.side)).permute(0, 5, 1, 3, 2, 4)
        return x.flatten(4).flatten(2, 3)
