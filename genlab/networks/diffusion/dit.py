"""DiT: a transformer over the patches of a noisy image, conditioned on noise level and class by adaptive normalisation.

Peebles and Xie 2023, "Scalable Diffusion Models with Transformers", section 3.2. The normalisation layers have no
parameters. A dense layer maps the condition to the shift, scale and gate of each branch. These layers are initialised
with zeros (adaLN-zero), so a new block is the identity. The last layer starts at zero too, so a new network returns 0.
The parameters of all blocks are stacked in `blocks`, with leaves [depth, ...], whether or not the blocks are unrolled.

Parameters on 32x32x4 latents with 8 output channels and 1000 classes, including the fixed table of positions: S/2
(width 384, depth 12, 6 heads) has 32,963,360, B/2 (768, 12, 12) 130,512,416, B/4 130,475,648, XL/2 (1152, 28, 16)
675,129,632.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.attention import Attention
from genlab.networks.layers.conditioning import embed_label, span_or_zero
from genlab.networks.layers.dense import Dense
from genlab.networks.layers.embedding import grid_positions, sinusoidal
from genlab.networks.layers.normalization import LayerNorm
from genlab.networks.layers.repetition import repeat
from genlab.networks.layers.resampling import patchify, unpatchify

FREQUENCIES = 256  # size of the sinusoidal embedding of a level
ZEROS, XAVIER, SMALL = nn.initializers.zeros_init(), nn.initializers.xavier_uniform(), nn.initializers.normal(0.02)


class DiT(nn.Module):
    """Maps square images [B, H, H, C] to float32 [B, H, H, channels]. `patch` must divide H.

    The table of positions is a variable of the collection 'constants': counted and saved, but not trained. With `span`,
    a time span is embedded like the level, and added. Each block attends to the context, if the network is initialised
    with one. The arguments of the call are:

    x: images [B, H, H, C].
    level: noise levels [B], scaled to the order of 1000.
    labels: class labels, int [B]; None means the null label `classes`.
    keys: ignored, because there is no dropout.
    span: time spans [B]; None means 0.
    context, context_mask: tokens [B, L, D] and their mask, bool [B, L], or None.
    """

    channels: int
    patch: int = 2
    width: int = 384
    depth: int = 12
    heads: int = 6
    classes: int = 0
    ratio: int = 4  # width of the hidden layer divided by the width of a token
    span: bool = False
    endpoint: bool = True  # spacing and order of the sinusoids of a level, see `sinusoidal`; False in the paper's code
    unrolled: bool = False  # compile every block, instead of one in a loop
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        level: jax.Array,
        train: bool,
        labels: jax.Array | None = None,
        keys: jax.Array | None = None,
        span: jax.Array | None = None,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
    ) -> jax.Array:
        del train, keys  # part of the common signature; no effect here
        size, side = x.shape[0], x.shape[1] // self.patch
        condition = nn.silu(self._condition(level, labels, span))
        positions = self.variable('constants', 'positions', lambda: jnp.asarray(grid_positions(side, self.width))[None])
        patches = patchify(x, self.patch).reshape(size, side * side, -1)
        x = dense(self.width, XAVIER, self.dtype, 'patches')(patches) + positions.value.astype(self.dtype)
        block = Block(self.heads, self.ratio, self.dtype, name='blocks')
        x = repeat(block, self.depth, x, condition, context, context_mask, unrolled=self.unrolled, remat=self.remat)
        shift, scale = modulation(2, self.width, self.dtype, 'output_modulation')(condition)
        x = normalized(x, shift, scale, 'output_norm')
        x = dense(self.patch**2 * self.channels, ZEROS, jnp.float32, 'output')(x)
        return unpatchify(x.reshape(size, side, side, -1), self.patch)

    def _condition(self, level: jax.Array, labels: jax.Array | None, span: jax.Array | None) -> jax.Array:
        """Embeds all conditions as one vector, float32 [B, width]."""
        condition = LevelEmbedding(self.width, self.endpoint, name='level')(level)
        if self.span:
            condition += LevelEmbedding(self.width, self.endpoint, name='span')(span_or_zero(span, level))
        if self.classes:
            condition += embed_label(labels, level, self.classes, self.width, embedding_init=SMALL)
        return condition


class Block(nn.Module):
    """Applies self-attention, attention to the context if given, and a hidden layer, each as a residual branch.

    x [B, N, width], condition [B, width] -> [B, N, width]. The branch of the context is between the other two. It has
    no gate, but its last layer is initialised with zeros (Chen et al. 2023, PixArt-alpha, section 2.3).
    """

    heads: int
    ratio: int
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        condition: jax.Array,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
    ) -> jax.Array:
        width = x.shape[-1]
        shift, scale, gate, late_shift, late_scale, late_gate = modulation(6, width, self.dtype, 'modulation')(
            condition
        )
        attention = Attention(self.heads, self.dtype, XAVIER, XAVIER, name='attention')
        x = x + gate * attention(normalized(x, shift, scale, 'norm'))
        if context is not None:
            attention = Attention(self.heads, self.dtype, XAVIER, name='context_attention')
            x = x + attention(normalized(x, 0, 0, 'context_norm'), context, context_mask)
        hidden = dense(self.ratio * width, XAVIER, self.dtype, 'hidden')(
            normalized(x, late_shift, late_scale, 'hidden_norm')
        )
        return x + late_gate * dense(width, XAVIER, self.dtype, 'hidden_output')(nn.gelu(hidden, approximate=True))


class LevelEmbedding(nn.Module):
    """Embeds numbers [B], scaled to the order of 1000, as float32 [B, width]."""

    width: int
    endpoint: bool

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        waves = sinusoidal(values, FREQUENCIES, endpoint=self.endpoint)
        x = dense(self.width, SMALL, jnp.float32, 'hidden')(waves)
        return dense(self.width, SMALL, jnp.float32, 'output')(nn.silu(x))


def dense(features: int, kernel_init: Callable, dtype: Any, name: str) -> nn.Dense:
    """Makes a dense layer named `name` in the calling module.

    Args:
        features: number of outputs.
        kernel_init: initializer of the kernel.
        dtype: type of the computation.
        name: name of the layer.
    """
    return Dense(features, dtype=dtype, kernel_init=kernel_init, name=name)


def modulation(parts: int, width: int, dtype: Any, name: str) -> Callable[[jax.Array], list[jax.Array]]:
    """Makes a layer, initialised with zeros, that maps a condition to shifts, scales and gates of tokens.

    Args:
        parts: number of outputs.
        width: width of a token.
        dtype: type of the computation.
        name: name of the layer in the calling module.

    Returns:
        A function from conditions [B, D] to a list of `parts` arrays [B, 1, width].
    """
    layer = dense(parts * width, ZEROS, dtype, name)
    return lambda condition: jnp.split(layer(condition)[:, None], parts, -1)


def normalized(x: jax.Array, shift: jax.Array | float, scale: jax.Array | float, name: str) -> jax.Array:
    """Normalises each token by float32 statistics, multiplies by 1 + scale and adds the shift.

    Args:
        x: tokens [B, N, width].
        shift: shift, [B, 1, width] or a number.
        scale: scale, [B, 1, width] or a number.
        name: name of the layer in the calling module.

    Returns:
        Tokens [B, N, width].
    """
    x = LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False, dtype=x.dtype, name=name)(x)
    return x * (1 + scale) + shift
