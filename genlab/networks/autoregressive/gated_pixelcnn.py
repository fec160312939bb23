"""The gated PixelCNN over tokens or binarised pixels.

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2 and figure 2. A vertical
stack sees all rows above a place, a horizontal stack those and the values to the left. Each of `layers` layers has a
gate tanh(a) sigmoid(b) in both stacks. Conditions are added before the gates: a class in each layer (equation 4), or
features of another grid (equation 5).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.gated import ContextNetwork, conditions, entry_weights, everywhere
from genlab.networks.layers.masked import Cache, CausalConv, Projection, Steps, Whole, raster, when


class GatedLayer(nn.Module):
    """Applies one layer of both stacks to [..., width]. The first sees embedded values and has no shortcut.

    Nothing reads what the last layer gives to the vertical stack, so it takes no conditions there.
    """

    width: int
    kernel_size: int
    first: bool
    last: bool
    label: bool
    context: bool
    dropout: float
    dtype: Any

    def setup(self):
        double, half = 2 * self.width, self.kernel_size // 2
        conv = functools.partial(CausalConv, double, shift=self.first, dtype=self.dtype)
        project = functools.partial(Projection, dtype=self.dtype)
        # A first layer sees rows above and columns to the left only. The features that later ones see are causal.
        self.above = conv(kernel_size=(half + (not self.first), self.kernel_size), direction='down')
        self.left = conv(kernel_size=(1, half + (not self.first)), direction='down_right')
        self.link, self.output = project(double), project(self.width)
        self.dropped = Dropout(self.dropout)
        if self.label:
            self.label_left = project(double, use_bias=False)
            if not self.last:
                self.label_above = project(double, use_bias=False)
        if self.context:
            self.context_left = project(double, use_bias=False)
            if not self.last:
                self.context_above = project(double, use_bias=False)

    def vertical(self, h: jax.Array, conditions: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Returns features of the vertical stack, and what the horizontal stack adds, from the output of `above`.

        The features of the last layer are not meant to be used.
        """
        added = self.link(h)
        if self.last:
            return h, added
        if self.label:
            h += everywhere(self.label_above(conditions['label']), h)
        if self.context:
            h += self.context_above(conditions['context'])
        return _gate(h), added

    def horizontal(
        self,
        x: jax.Array,
        walk: Whole | Steps,
        added: jax.Array,
        conditions: dict[str, jax.Array],
        keys: jax.Array | None,
    ) -> jax.Array:
        """Returns features of the horizontal stack.

        Args:
            x: features of the layer before, or the embedded values.
            walk: the walk over places.
            added: what the vertical stack adds, [..., 2 width].
            conditions: label [B, classes], and context at these places.
            keys: one key per example for dropout, or None.

        Returns:
            Features [..., width].
        """
        h = walk(self.left, x) + added
        if self.label:
            h += everywhere(self.label_left(conditions['label']), h)
        if self.context:
            h += self.context_left(conditions['context'])
        h = self.output(self.dropped(_gate(h), keys))
        return h if self.first else x + h


class GatedPixelCNN(nn.Module):
    """Maps tokens to logits of the token at each place: [B, h, w] -> float32 [B, h, w, entries].

    Called with (x, train, keys, label, context). x holds tokens, int [B, h, w]; or weights of the entries, float
    [B, h, w, entries]; or, for 2 entries, pixels of -1 and 1, float [B, h, w, 1]. Entry 1 is then the pixel 1. The
    logits at a place depend on x at earlier places in raster order, on the label and on the context. The label is class
    weights [B, classes] (missing: zeros). The context is codes int [B, h', w'] or features [B, h', w', D] of another
    grid, whose sides divide the sides of x.

    Fields:
        shape: height and width of x.
        entries: number of different tokens.
        width: channels p of a stack.
        layers: number of layers, the first included.
        kernel_size: side of the square that the two kernels of a layer stand for, odd.
        first_kernel_size: the same for the first layer.
        output_width: channels before the logits.
        classes: number of classes; 0: no label.
        context: entries of the codes in the context, or its features D; 0: no context.
        context_blocks: residual blocks over the context.
        dropout: rate, in the horizontal stack; 0 in the paper.
    """

    shape: tuple[int, int]
    entries: int
    width: int = 64
    layers: int = 12
    kernel_size: int = 3
    first_kernel_size: int = 7
    output_width: int = 256
    classes: int = 0
    context: int = 0
    context_blocks: int = 2
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self):
        settings: dict[str, Any] = {
            'label': self.classes > 0,
            'context': self.context > 0,
            'dropout': self.dropout,
            'dtype': self.dtype,
        }
        self.embedding = nn.Embed(self.entries, self.width, dtype=self.dtype)
        self.stack = [
            GatedLayer(
                self.width, self.kernel_size if i else self.first_kernel_size, i == 0, i == self.layers - 1, **settings
            )
            for i in range(self.layers)
        ]
        self.inner = Projection(self.output_width, dtype=self.dtype)
        self.logits = Projection(self.entries, dtype=self.dtype)
        if self.context:
            self.context_network = ContextNetwork(
                self.context, self.width, self.context_blocks, dropout=self.dropout, dtype=self.dtype
            )

    def __call__(
        self,
        x: jax.Array,
        train: bool,
        keys: jax.Array | None = None,
        label: jax.Array | None = None,
        context: jax.Array | None = None,
    ) -> jax.Array:
        keys = keys if train else None
        given, walk = self._conditions(len(x), label, context, keys), Whole()
        x = self._embed(x)
        self._vertical(self.stack[0].above(x), walk, given)
        return self._horizontal(x, walk, given, keys)

    def start(self, count: int, label: jax.Array | None = None, context: jax.Array | None = None) -> Cache:
        """Returns the cache of `count` grids before their first place. See `__call__` for the conditions."""
        given = self._conditions(count, label, context, None)
        above = Steps({}, 0, None, self.shape[1], starting=True)
        self._vertical(jnp.zeros((count, self.shape[1], 2 * self.width), self.dtype), above, given)
        left = Steps({}, 0, 0, self.shape[1], above=above.cache, starting=True)
        self._horizontal(jnp.zeros((count, self.width), self.dtype), left, given, None)
        first = self.stack[0].above.empty(count, self.shape[1], self.width)
        return {'above': above.cache, 'left': left.cache, 'first': first, 'conditions': given}

    def advance(self, cache: Cache, previous: jax.Array, place: jax.Array) -> tuple[jax.Array, Cache]:
        """Computes the logits of one place.

        The vertical stack is evaluated once per row, when its first place is due.

        Args:
            cache: arrays from `start` or from the place before.
            previous: tokens of the place before, as x without the axes of places; ignored at place 0.
            place: int [], in raster order.

        Returns:
            Logits, float32 [B, entries], and the cache for the next place.
        """
        given, (i, j) = cache['conditions'], raster(place, self.shape[1])
        x = jnp.where(place > 0, self._embed(previous), 0)
        first = self.stack[0].above.write(cache['first'], x, i, j)

        def row(module: GatedPixelCNN, above: Cache) -> Cache:
            walk = Steps(above, i, None, self.shape[1])
            module._vertical(module.stack[0].above.read(first, i, None), walk, given)
            return walk.cache

        above = when(j == 0, row, self, cache['above'])
        walk = Steps(cache['left'], i, j, self.shape[1], above=above)
        logits = self._horizontal(x, walk, given, None)
        return logits, {**cache, 'above': above, 'left': walk.cache, 'first': first}

    def _embed(self, x: jax.Array) -> jax.Array:
        """Embeds tokens, their weights, or binary pixels: [..., width]."""
        if jnp.issubdtype(x.dtype, jnp.integer):
            return self.embedding(x)
        return entry_weights(x, self.entries, self.dtype) @ self.embedding.embedding.astype(self.dtype)

    def _conditions(
        self, count: int, label: jax.Array | None, context: jax.Array | None, keys: jax.Array | None
    ) -> dict[str, jax.Array]:
        """Returns the label, and features of the context."""
        given = conditions(count, label, context, self.classes, self.context)
        if self.context:
            given['context'] = self.context_network(given['context'], keys)
        return given

    def _at(self, given: dict[str, jax.Array], walk: Whole | Steps) -> dict[str, jax.Array]:
        """Returns the conditions at the places of a walk."""
        return {**given, 'context': walk.grid(given['context'], self.shape)} if self.context else given

    def _vertical(self, h: jax.Array, walk: Whole | Steps, given: dict[str, jax.Array]) -> None:
        """Applies the vertical stack to the output of its first convolution. The walk keeps its features."""
        given = self._at(given, walk)
        for i, layer in enumerate(self.stack):
            h, added = layer.vertical(walk(layer.above, h) if i else h, given)
            walk.keep(f'added_{i}', added)

    def _horizontal(
        self, x: jax.Array, walk: Whole | Steps, given: dict[str, jax.Array], keys: jax.Array | None
    ) -> jax.Array:
        """Applies the horizontal stack to embedded values. Returns the logits."""
        given = self._at(given, walk)
        for i, layer in enumerate(self.stack):
            x = layer.horizontal(x, walk, walk.from_above(f'added_{i}'), given, keys)
        return self.logits(nn.relu(self.inner(nn.relu(x)))).astype(jnp.float32)


def _gate(x: jax.Array) -> jax.Array:
    """Applies the gated unit: [..., 2 C] -> [..., C] (equation 2)."""
    value, gate = jnp.split(x, 2, -1)
    return jnp.tanh(value) * nn.sigmoid(gate)
