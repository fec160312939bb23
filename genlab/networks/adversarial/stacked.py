"""Stacked generator and its discriminators: one image per stage, each of twice the side (StackGAN-v2).

Zhang et al. 2018, "StackGAN++", section 4.1, as Li et al. 2020 condition it on an embedding of speech. With an
embedding of 1,024 values, 128 of them after conditioning augmentation, 100 latents, width 64 and three stages of sides
64, 128 and 256, the generator has 21,239,696 parameters.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.dcgan import EDGE, normal
from genlab.networks.layers.convolution import STRIDE_TWO, Conv, DoubledConv
from genlab.networks.layers.normalization import BatchNorm
from genlab.networks.layers.resampling import doublings


class Pictures(NamedTuple):
    """The images of all stages, and the distribution that the condition was drawn from."""

    images: tuple[jax.Array, ...]  # [B, S, S, channels] in [-1, 1], the smallest first
    mean: jax.Array  # [B, condition_size]
    log_variance: jax.Array  # [B, condition_size]


class Generator(nn.Module):
    """Maps latents z [B, D], an embedding [B, E] and noise [B, condition_size] to `Pictures`.

    Conditioning augmentation draws the condition c = m + exp(l / 2) noise, where mean m and log-variance l depend on
    the embedding (Zhang et al. 2017, section 3.2). Each later stage sees c at every pixel of the features before it.
    `width` counts the channels of the first stage's image, which every stage halves. `axis` names the mapped axis over
    which batch statistics are shared.
    """

    resolution: int  # resolution of the last stage
    stages: int = 3
    channels: int = 3
    width: int = 64
    blocks: int = 2  # residual ones per later stage
    condition_size: int = 128
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, embedding: jax.Array, noise: jax.Array, train: bool) -> Pictures:
        first, size = doublings(first_side(self.resolution, self.stages)), self.condition_size
        both = nn.glu(nn.Dense(4 * size, dtype=self.dtype, name='condition')(embedding)).astype(jnp.float32)
        mean, log_variance = both[:, :size], both[:, size:]
        condition = mean + jnp.exp(log_variance / 2) * noise
        width = self.width * 2**first
        x = jnp.concatenate([condition, z], -1)
        x = nn.Dense(32 * width, use_bias=False, dtype=self.dtype, name='input')(x)
        x = nn.glu(self.normalized(x, train, 'input')).reshape(-1, 4, 4, width)
        for i in range(first):
            x = self.gated(x, width // 2 ** (i + 1), train, f'double_{i}', DoubledConv)
        images = [self.image(x, 0)]
        for stage in range(1, self.stages):
            planes = jnp.broadcast_to(condition[:, None, None], (*x.shape[:3], size)).astype(x.dtype)
            x = self.gated(jnp.concatenate([planes, x], -1), x.shape[-1], train, f'joint_{stage}')
            for i in range(self.blocks):
                name = f'residual_{stage}_{i}'
                h = self.gated(x, x.shape[-1], train, f'{name}_0')
                x = x + self.normalized(self.convolved(h, x.shape[-1], f'{name}_1'), train, f'{name}_1')
            x = self.gated(x, max(1, x.shape[-1] // 2), train, f'double_{stage}_0', DoubledConv)
            images.append(self.image(x, stage))
        return Pictures(tuple(images), mean, log_variance)

    def convolved(self, x: jax.Array, width: int, name: str, kind: type[Conv] = Conv) -> jax.Array:
        """Applies a 3x3 convolution without a bias."""
        return kind(width, (3, 3), use_bias=False, dtype=self.dtype, name=f'{name}_convolution')(x)

    def normalized(self, x: jax.Array, train: bool, name: str) -> jax.Array:
        """Normalises over the batch."""
        name = f'{name}_normalization'
        return BatchNorm(self.axis, dtype=self.dtype, scale_init=normal(mean=1.0), name=name)(x, train)

    def gated(self, x: jax.Array, width: int, train: bool, name: str, kind: type[Conv] = Conv) -> jax.Array:
        """Convolves to twice the width, normalises, and gates one half of the channels with the other."""
        return nn.glu(self.normalized(self.convolved(x, 2 * width, name, kind), train, name))

    def image(self, x: jax.Array, stage: int) -> jax.Array:
        """Maps feature maps to an image in [-1, 1]."""
        return nn.tanh(self.convolved(x, self.channels, f'image_{stage}')).astype(jnp.float32)


class Discriminator(nn.Module):
    """Maps images [B, S, S, C] and K conditions [B, K, D] to conditional logits [B, K] and unconditional ones [B].

    The K pairs share the features of the image, and are normalised one by one. Convolutions halve the side to 4x4 and
    double the channels, from `width`. Beyond four halvings, more convolutions reduce the channels to 8 * width.
    """

    width: int = 64
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, conditions: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        settings: dict[str, Any] = {'use_bias': False, 'dtype': self.dtype}
        halvings = doublings(images.shape[1])

        def normalized(x: jax.Array, name: str) -> jax.Array:
            layer = BatchNorm(self.axis, dtype=self.dtype, scale_init=normal(mean=1.0), name=name)
            return nn.leaky_relu(layer(x, train), 0.2)

        x = nn.leaky_relu(Conv(self.width, **STRIDE_TWO, name='halve_0', **settings)(images), 0.2)
        for i in range(1, halvings):
            x = Conv(self.width * 2**i, **STRIDE_TWO, name=f'halve_{i}', **settings)(x)
            x = normalized(x, f'halve_{i}_normalization')
        for i in range(halvings - 2, 2, -1):
            x = normalized(Conv(self.width * 2**i, (3, 3), name=f'reduce_{i}', **settings)(x), f'reduce_{i}_norm')
        joint = Conv(x.shape[-1], (3, 3), name='joint', **settings)
        joint_norm = BatchNorm(self.axis, dtype=self.dtype, scale_init=normal(mean=1.0), name='joint_normalization')
        edge: dict[str, Any] = {**EDGE, **settings, 'use_bias': True}
        logit, unconditional = (Conv(1, name=name, **edge) for name in ('conditional', 'unconditional'))
        logits = []
        for k in range(conditions.shape[1]):
            planes = jnp.broadcast_to(conditions[:, k, None, None], (*x.shape[:3], conditions.shape[-1]))
            h = joint(jnp.concatenate([planes.astype(x.dtype), x], -1))
            logits.append(logit(nn.leaky_relu(joint_norm(h, train), 0.2))[:, 0, 0, 0])
        return jnp.stack(logits, 1).astype(jnp.float32), unconditional(x)[:, 0, 0, 0].astype(jnp.float32)


def first_side(resolution: int, stages: int) -> int:
    """Returns the side of the first stage's images. Every later stage doubles it.

    Raises:
        ValueError: it is below 8.
    """
    side = resolution >> (stages - 1)
    if stages < 1 or side < 8:
        raise ValueError(f'{stages} stages of a side of {resolution} at the end start below 8 pixels: take fewer')
    return side
