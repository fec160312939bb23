"""Gated residual blocks of autoregressive networks, for grids, rows and single places, and their conditions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.masked import CausalConv, Projection, Steps, Whole


def concat_elu(x: jax.Array) -> jax.Array:
    """Applies ELU to x and -x: [..., C] -> [..., 2 C] (Salimans et al. 2017, section 2.5, code)."""
    return nn.elu(jnp.concatenate([x, -x], -1))


def glu(x: jax.Array) -> jax.Array:
    """Multiplies the first half of the channels by the sigmoid of the second: [..., 2 C] -> [..., C]."""
    value, gate = jnp.split(x, 2, -1)
    return value * nn.sigmoid(gate)


def everywhere(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Adds axes to a vector per example [B, C], so that it broadcasts to x [B, ..., C]."""
    return vector.reshape(len(vector), *(1,) * (x.ndim - 2), -1)


class GatedResidual(nn.Module):
    """Adds two convolutions and a gate to x [..., width], which is a grid, a row or a place.

    x + glu(second(dropout(a(first(a(x)) + auxiliary(a(y))))) + conditions), with the activation a and an auxiliary
    input y (Salimans et al. 2017, code; Chen et al. 2018, section 2.2 and code).

    Fields:
        width: channels of x.
        inner: channels between the convolutions.
        conv: makes a layer from a number of features and `scale`. A layer that is not a CausalConv of a walk is 1x1.
        activation: the function a.
        auxiliary: whether there is an auxiliary input.
        label: whether a label, class weights [B, classes], is added before the gate.
        condition: whether features of a grid are added before the gate.
        dropout: rate.
    """

    width: int
    inner: int
    conv: Callable[..., nn.Module]
    activation: Callable[[jax.Array], jax.Array] = nn.elu
    auxiliary: bool = False
    label: bool = False
    condition: bool = False
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self):
        project = functools.partial(Projection, weight_norm=True, dtype=self.dtype)
        self.first = self.conv(self.inner)
        self.second = self.conv(2 * self.width, scale=0.1)
        self.dropped = Dropout(self.dropout)
        if self.auxiliary:
            self.beside = project(self.inner)
        if self.condition:
            self.conditioned = project(2 * self.width, use_bias=False)
        if self.label:
            self.labelled = Projection(2 * self.width, use_bias=False, dtype=self.dtype)

    def __call__(
        self,
        x: jax.Array,
        walk: Whole | Steps,
        keys: jax.Array | None = None,
        auxiliary: jax.Array | None = None,
        label: jax.Array | None = None,
        condition: jax.Array | None = None,
    ) -> jax.Array:
        h = _apply(walk, self.first, self.activation(x))
        if self.auxiliary:
            assert auxiliary is not None, 'this block has an auxiliary input'
            h += self.beside(self.activation(auxiliary))
        h = self.dropped(self.activation(h), keys)
        h = _apply(walk, self.second, h)
        if self.condition:
            assert condition is not None, 'this block has a condition'
            h += self.conditioned(condition)
        if self.label:
            assert label is not None, 'this block has a label'
            h += everywhere(self.labelled(label), h)
        return x + glu(h)


def _apply(walk: Whole | Steps, layer: Any, x: jax.Array) -> jax.Array:
    """Applies a causal layer through the walk, and any other directly."""
    if isinstance(layer, CausalConv) and layer.direction != 'same':
        return walk(layer, x)
    return layer(x)


class ContextNetwork(nn.Module):
    """Embeds the grid that a prior is conditioned on, codes or features of another level, to [B, h, w, width].

    A convolution and `blocks` gated residual blocks, not causal, with weight normalisation (Razavi et al. 2019,
    section 3.2 and appendix A).
    """

    entries: int  # number of entries of the codebook; features pass unchanged
    width: int
    blocks: int
    kernel_size: int = 3
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self):
        size = (self.kernel_size,) * 2
        conv = functools.partial(CausalConv, kernel_size=size, direction='same', weight_norm=True, dtype=self.dtype)
        self.input = conv(self.width)
        self.residual = [
            GatedResidual(self.width, self.width, conv, dropout=self.dropout, dtype=self.dtype)
            for _ in range(self.blocks)
        ]

    def __call__(self, context: jax.Array, keys: jax.Array | None) -> jax.Array:
        x = self.input(entry_weights(context, self.entries, self.dtype))
        for block in self.residual:
            x = block(x, Whole(), keys)
        return x


def entry_weights(x: jax.Array, entries: int, dtype: Any = jnp.float32) -> jax.Array:
    """Returns the weights of the entries at each place.

    Args:
        x: codes, int [...], in 0 ... entries - 1; or weights or features, float [..., D], which are returned as they
            are; or, for 2 entries, pixels of -1 and 1, float [..., 1], which are entries 0 and 1.
        entries: number of entries.
        dtype: type of the result.

    Returns:
        Weights [..., entries], or x itself.
    """
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jax.nn.one_hot(x, entries, dtype=dtype)
    if entries == 2 and x.shape[-1] == 1:
        return jnp.concatenate([1 - x, 1 + x], -1).astype(dtype) / 2
    return x.astype(dtype)


def conditions(
    count: int, label: jax.Array | None, context: jax.Array | None, classes: int, entries: int
) -> dict[str, jax.Array]:
    """Returns the conditions for which a network has weights, and refuses others.

    Args:
        count: number of examples B.
        label: class weights [B, classes], or None: zeros, the null label.
        context: codes or features of another grid, or None.
        classes: number of classes of the network; 0: it takes no label.
        entries: number of entries of the context; 0: it takes none.

    Returns:
        'label': float [B, classes] and 'context', each if the network takes it.

    Raises:
        ValueError: a condition has no weights in the network, or the context is missing.
    """
    for name, value, taken in (('label', label, classes), ('context', context, entries)):
        if value is not None and not taken:
            raise ValueError(f'this network takes no {name}: leave it out, or build the network with one')
    found = {}
    if classes:
        found['label'] = jnp.zeros((count, classes)) if label is None else label
    if entries:
        if context is None:
            raise ValueError('this network is conditioned on a context: give context=')
        found['context'] = context
    return found
