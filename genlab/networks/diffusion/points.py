"""A dense denoiser conditioned on the noise level, for densities in the plane and other small data."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.conditioning import embed_label, span_or_zero
from genlab.networks.layers.embedding import sinusoidal
from genlab.networks.layers.mlp import MLP

FREQUENCIES = 64  # size of the sinusoidal embedding of a level


class PointNetwork(nn.Module):
    """Denoises points [B, D] -> float32 [B, channels], zero at initialisation (`channels` None: D).

    Every layer receives the condition, applies a SiLU, and is residual where the widths agree. It is called with
    (x, level [B], train, labels [B], keys, span [B]). Missing labels mean the null label `classes`. A missing span
    means 0. There is no dropout, so keys are ignored.
    """

    features: tuple[int, ...] = (256, 256, 256)
    channels: int | None = None
    classes: int = 0
    span: bool = False
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
    ) -> jax.Array:
        del train, keys  # part of the common signature; no effect here
        channels = self.channels or x.shape[-1]
        condition = nn.silu(self._condition(level, labels, span))
        layer = nn.remat(Layer) if self.remat else Layer
        for number, width in enumerate(self.features):
            x = layer(width, self.dtype, name=f'layer_{number}')(x, condition)
        return nn.Dense(channels, kernel_init=nn.initializers.zeros_init(), name='output')(x.astype(jnp.float32))

    def _condition(self, level: jax.Array, labels: jax.Array | None, span: jax.Array | None) -> jax.Array:
        """Embeds all conditions as one vector, float32 [B, features[0]]."""
        widths = self.features[:1] * 2
        condition = MLP(widths, nn.silu, name='level')(sinusoidal(level, FREQUENCIES))
        if self.span:
            condition += MLP(widths, nn.silu, name='span')(sinusoidal(span_or_zero(span, level), FREQUENCIES))
        if self.classes:
            condition += embed_label(labels, level, self.classes, widths[0])
        return condition


class Layer(nn.Module):
    """Computes silu(W x + V condition + b), and adds x where the widths agree: [B, n], [B, m] -> [B, width]."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        y = nn.Dense(self.width, dtype=self.dtype, name='dense')(x)
        y = nn.silu(y + nn.Dense(self.width, use_bias=False, dtype=self.dtype, name='condition')(condition))
        return x + y if x.shape[-1] == self.width else y
