"""A codebook between an encoder and a decoder (van den Oord et al. 2017), learned by moving averages or by gradients."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

EXACT = jax.lax.Precision.HIGHEST  # of products: accelerators would round what goes into them


class Quantized(NamedTuple):
    """Codes and the entries that stand for them."""

    codes: jax.Array  # [B, ..., D]: the entries, and for gradients the codes themselves (straight-through, equation 2)
    entries: jax.Array  # [B, ..., D]: the entries, whose gradient is the codebook's
    indices: jax.Array  # int32 [B, ...]
    usage: jax.Array  # [K]: the share of the batch, over all devices in training, that each entry stands for


class Quantizer(nn.Module):
    """Takes the nearest of K = `entries` vectors for each code: float32 [B, ..., width] -> Quantized.

    With `decay` above 0 an entry is the mean of the codes that it stood for (appendix A.1): of their number N and their sum M
    moving averages from zero are kept, over the whole batch of all devices of the mapped axis `axis`, and
        e_k = M_k / N'_k,  N'_k = (N_k + s) / (sum_j N_j + K s) sum_j N_j,
    both divided by 1 - decay^t first, with s = `smoothing`. With `decay` 0 entries are parameters, for the codebook loss.

    An entry that stood for nothing in more than `patience` batches starts again at a code of the batch, as does in the first
    batch each that stands for nothing; with `patience` 0 none does. An entry that is a parameter stays with its optimizer: what
    it starts again by is added to it."""

    entries: int
    width: int
    decay: float = 0.99
    smoothing: float = 1e-5
    patience: int = 100
    axis: str | None = None

    def setup(self):
        shape, bound = (self.entries, self.width), 1 / self.entries
        start = lambda key: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        self.steps = self.variable('codebook', 'steps', jnp.zeros, (), jnp.int32)
        self.idle = self.variable('codebook', 'idle', jnp.full, shape[:1], self.patience, jnp.int32)
        if self.decay:
            self.means = self.variable('codebook', 'entries', lambda: start(self.make_rng('params')))
            self.count = self.variable('codebook', 'count', jnp.zeros, shape[:1], jnp.float32)
            self.sum = self.variable('codebook', 'sum', jnp.zeros, shape, jnp.float32)
        else:
            self.learned = self.param('entries', start)
            self.shift = self.variable('codebook', 'shift', jnp.zeros, shape, jnp.float32)

    def table(self) -> jax.Array:
        """The entries [K, width]."""
        return self.means.value if self.decay else self.learned + self.shift.value

    def look_up(self, indices: jax.Array) -> jax.Array:
        """int32 [B, ...] -> their entries [B, ..., width]."""
        return self.table()[indices]

    def __call__(self, codes: jax.Array, train: bool) -> Quantized:
        train = train and not self.is_initializing()
        flat = jax.lax.stop_gradient(codes).reshape(-1, self.width)
        indices = nearest(flat, jax.lax.stop_gradient(self.table()))
        chosen = jax.nn.one_hot(indices, self.entries)
        counts = self._total(chosen.sum(0)) if train else chosen.sum(0)
        entries = self.look_up(indices).reshape(codes.shape)
        if train:
            self._learn(flat, chosen, counts)
        through = codes + jax.lax.stop_gradient(entries - codes)
        return Quantized(through, entries, indices.reshape(codes.shape[:-1]), counts / counts.sum())

    def _total(self, values):
        """The sum over devices."""
        return values if self.axis is None else jax.lax.psum(values, self.axis)

    def _learn(self, codes, chosen, counts):
        """Moves the averages, and starts entries again: codes [N, width] of this device, which it chose entries for [N, K]."""
        idle = jnp.where(counts > 0, 0, self.idle.value + 1)
        dead = (idle > self.patience) & (self.patience > 0)
        fresh = self._fresh(codes)
        self.steps.value += 1
        self.idle.value = jnp.where(dead, 0, idle)
        if self.decay:
            sums = self._total(jnp.matmul(chosen.T, codes, precision=EXACT))
            self._average(dead, jnp.where(dead, 1, counts), jnp.where(dead[:, None], fresh, sums))
        else:
            self.shift.value = jnp.where(dead[:, None], fresh - jax.lax.stop_gradient(self.learned), self.shift.value)

    def _average(self, dead, counts, sums):
        """Moves each entry by what it stands for; the dead forget what they stood for before."""
        for running, now in ((self.count, counts), (self.sum, sums)):
            forgotten = dead.reshape(-1, *(1,) * (now.ndim - 1))
            running.value = self.decay * jnp.where(forgotten, 0, running.value) + (1 - self.decay) * now
        weight = 1 - self.decay ** self.steps.value.astype(jnp.float32)
        count, total = self.count.value / weight, self.count.value.sum() / weight
        smooth = (count + self.smoothing) / (total + self.entries * self.smoothing) * total
        moved = self.sum.value / weight / smooth[:, None]
        self.means.value = jnp.where(
            count[:, None] > 0, moved, self.means.value
        )  # one that stood for nothing yet stays

    def _fresh(self, codes):
        """A code of the whole batch for every entry [K, width]: evenly spread over it, at other places in each batch."""
        devices, device = (1, 0) if self.axis is None else (jax.lax.axis_size(self.axis), jax.lax.axis_index(self.axis))
        count = len(codes) * devices
        spread = np.arange(self.entries, dtype=np.int64) * stride(count) % count
        place = (spread.astype(np.int32) + self.steps.value % count) % count - device * len(codes)
        here = (place >= 0) & (place < len(codes))
        return self._total(jnp.where(here[:, None], codes[place.clip(0, len(codes) - 1)], 0))


def nearest(codes: jax.Array, entries: jax.Array) -> jax.Array:
    """The entry [K, D] nearest to each code [N, D]: int32 [N], by |z|^2 - 2 z e + |e|^2 without the first, which all share."""
    distance = jnp.square(entries).sum(1)[None] - 2 * jnp.matmul(codes, entries.T, precision=EXACT)
    return distance.argmin(1).astype(jnp.int32)


def stride(count: int) -> int:
    """A step of about 0.618 of a circle of `count` places that meets each of them before it meets one again."""
    return next(step for step in range(max(1, round(0.618 * count)), 2 * count + 1) if math.gcd(step, count) == 1)
