"""StyleGAN (Karras et al. 2019): a mapping network, and a generator whose layers are controlled by styles.

Section 2 and appendices B and C. The discriminator is ProGAN's, with a filter before it halves. At 1024x1024 with three
channels, the mapping has 2,101,248 parameters and the synthesis 24,118,379.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.progressive import BLUR, GAIN, LEAKY, blended, channels_at, fade_of
from genlab.networks.layers.convolution import convolve_doubled
from genlab.networks.layers.equalized import EqualizedConv, EqualizedDense, pixel_norm
from genlab.networks.layers.resampling import doublings, filtered
from genlab.noise import named_key, normal


class Mapping(nn.Module):
    """Maps latents z [B, D] to latents w [B, width], and tracks the mean of w.

    Truncation moves w towards the mean (section 2.1 and appendix B). It is a running average over training, in the
    collection `batch_stats`. An embedding of the label, class weights [B, classes], is concatenated to z.

    The gain of the rectifier scales the weights. With `scale_bias` it scales the biases too, as in StyleGAN2.
    """

    width: int = 512
    layers: int = 8
    multiplier: float = 0.01  # factor of the learning rate
    decay: float = 0.995  # decay of the mean of w, per step
    scale_bias: bool = False

    @nn.compact
    def __call__(self, z: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        x = pixel_norm(z)
        if label is not None:
            x = jnp.concatenate([x, pixel_norm(EqualizedDense(self.width, name='label')(label))], -1)
        for i in range(self.layers):
            before, after = (1.0, GAIN) if self.scale_bias else (GAIN, 1.0)
            x = LEAKY(EqualizedDense(self.width, before, self.multiplier, name=f'dense_{i}')(x)) * after
        mean = self.variable('batch_stats', 'mean', jnp.zeros, (self.width,), jnp.float32)
        if train and not self.is_initializing():
            mean.value += (1 - self.decay) * (x.mean(0) - mean.value)
        return x


def truncate(w: jax.Array, mean: jax.Array, share: float | jax.Array) -> jax.Array:
    """Moves latents w [..., D] towards their mean [D], to `share` of their distance (the truncation trick)."""
    return mean + share * (w - mean)


def layers(resolution: int) -> int:
    """Returns the number of styled layers of a generator: two per side, from 4 to the resolution."""
    return 2 * doublings(resolution) + 2


class PixelNoise(nn.Module):
    """Adds noise N(0, 1) to each pixel of x [B, H, W, C], with one learned strength per channel or for all.

    keys: one per example [B]; None takes the same constant noise for every example. The layer's path names its noise.
    With `kept`, the constant noise is in the collection `buffers`, as in StyleGAN2: saved, but not trained.
    """

    per_channel: bool = True
    kept: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        strength = self.param('strength', nn.initializers.zeros_init(), (x.shape[-1] if self.per_channel else 1,))
        layer, shape = f'pixel noise of {"/".join(self.path)}', (*x.shape[1:3], 1)
        draw = lambda: jax.random.normal(named_key(jax.random.key(0), layer), shape)
        constant = self.variable('buffers', 'noise', draw).value if self.kept else None
        if keys is not None:
            noise = normal(keys, shape, layer)
        else:
            noise = (draw() if constant is None else constant)[None]
        return x + (strength[None, None, None] * noise).astype(x.dtype)


class Synthesis(nn.Module):
    """Maps styles w [B, layers, D] to images [B, S, S, channels] of side S = 4 * 2^level. It grows as ProGAN does."""

    resolution: int
    level: int  # doublings in use
    channels: int = 3
    base: int = 4096  # channels of a feature map, times its side; see channels_at
    most: int = 512  # channels
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, w: jax.Array, train: bool, keys: jax.Array | None = None, fade: jax.Array | float | None = None
    ) -> jax.Array:
        """Generates images.

        Args:
            w: a style per layer [B, layers, D].
            train: whether the fade is kept.
            keys: noise keys, one per example [B]; None takes the same noise for every example.
            fade: the fade of the highest level, in [0, 1]; None takes the one that is kept.

        Returns:
            Images, float32 [B, S, S, channels].
        """
        alpha = fade_of(self, fade, train)
        level = doublings(self.resolution) if self.is_initializing() else self.level
        images = []
        for i in range(level + 1):
            width = channels_at(i, self.base, self.most)
            if i == 0:
                constant = self.param('constant', nn.initializers.ones_init(), (4, 4, width))
                x = jnp.broadcast_to(constant[None].astype(self.dtype), (w.shape[0], 4, 4, width))
            else:
                operation = lambda x, kernel: filtered(convolve_doubled(x, kernel), 1, 1, BLUR)
                x = self.convolution(width, f'double_{i}', operation=operation)(x)
            x = self.styled(x, w[:, 2 * i], keys, f'{i}_0')
            x = self.styled(self.convolution(width, f'convolution_{i}')(x), w[:, 2 * i + 1], keys, f'{i}_1')
            if i >= level - 1 or self.is_initializing():
                images.append(EqualizedConv(self.channels, 1, dtype=self.dtype, name=f'image_{i}')(x))
        return blended(images, alpha).astype(jnp.float32)

    def convolution(self, width: int, name: str, **settings: Any) -> EqualizedConv:
        """Makes a convolution without a bias: the noise comes first."""
        return EqualizedConv(width, gain=GAIN, use_bias=False, dtype=self.dtype, name=name, **settings)

    def styled(self, x: jax.Array, w: jax.Array, keys: jax.Array | None, name: str) -> jax.Array:
        """Adds noise and a bias, rectifies, normalises each channel, and applies the style (AdaIN, equation 1).

        Args:
            x: feature maps [B, H, W, C].
            w: the style [B, D].
            keys: noise keys [B] or None.
            name: suffix of the names of the parameters.

        Returns:
            Feature maps [B, H, W, C].
        """
        width = x.shape[-1]
        x = PixelNoise(name=f'noise_{name}')(x, keys)
        bias = self.param(f'bias_{name}', nn.initializers.zeros_init(), (width,))
        x = LEAKY(x + bias[None, None, None].astype(x.dtype)).astype(jnp.float32)
        x -= x.mean((1, 2), keepdims=True)
        x *= jax.lax.rsqrt(jnp.square(x).mean((1, 2), keepdims=True) + 1e-8)
        scale, shift = jnp.split(EqualizedDense(2 * width, name=f'style_{name}')(w)[:, None, None], 2, -1)
        return (x * (1 + scale) + shift).astype(self.dtype)
