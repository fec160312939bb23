"""Quantisers of codes: a learned codebook (van den Oord et al. 2017), and fixed scalar levels (Mentzer et al. 2023).

A codebook learns by moving averages or by gradients. All quantisers have the fields `entries`, the number K of codes,
and `width`, the number D of channels; `look_up` maps indices to entries.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

EXACT = jax.lax.Precision.HIGHEST  # precision of products: accelerators would round their operands


class Quantized(NamedTuple):
    """Quantised codes, the entries assigned to them, and codebook usage."""

    codes: jax.Array  # [B, ..., D]: the entries; gradients pass straight through to the codes (equation 2)
    entries: jax.Array  # [B, ..., D]: the entries; gradients reach the codebook
    indices: jax.Array  # int32 [B, ...]
    usage: jax.Array  # [K]: fraction of the batch assigned to each entry, over all devices in training


class Quantizer(nn.Module):
    """Replaces each code by the nearest of K = `entries` vectors: float32 [B, ..., width] -> Quantized.

    With `decay` above 0, an entry is the mean of the codes assigned to it (appendix A.1). The layer keeps moving
    averages of their number N and their sum M, both from zero. They cover the batch on all devices of the mapped axis
    `axis`:

        e_k = M_k / N'_k,  N'_k = (N_k + s) / (sum_j N_j + K s) sum_j N_j.

    N and M are divided by 1 - decay^t first; s is `smoothing`. With `decay` 0, entries are parameters, trained by the
    codebook loss.

    Dead entries are restarted: an entry unused for more than `patience` batches is reset to an encoder output from the
    current batch (0 disables this). All entries unused in the first batch are reset too. A gradient-trained entry keeps
    its parameter; the reset is an offset added to it.
    """

    entries: int
    width: int
    decay: float = 0.99
    smoothing: float = 1e-5
    patience: int = 100
    axis: str | None = None

    def setup(self) -> None:
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
        """Returns the entries [K, width]."""
        return self.means.value if self.decay else self.learned + self.shift.value

    def look_up(self, indices: jax.Array) -> jax.Array:
        """Looks up entries by index: int32 [B, ...] -> [B, ..., width]."""
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
        return Quantized(
            straight_through(codes, entries), entries, indices.reshape(codes.shape[:-1]), counts / counts.sum()
        )

    def _total(self, values: jax.Array) -> jax.Array:
        """Sums over devices."""
        return values if self.axis is None else jax.lax.psum(values, self.axis)

    def _learn(self, codes: jax.Array, chosen: jax.Array, counts: jax.Array) -> None:
        """Updates the averages and restarts dead entries.

        Args:
            codes: codes of this device, [N, width].
            chosen: one-hot indices of their entries, [N, K].
            counts: number of codes per entry over all devices, [K].
        """
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

    def _average(self, dead: jax.Array, counts: jax.Array, sums: jax.Array) -> None:
        """Updates each entry from the codes assigned to it; dead entries discard their past averages."""
        for running, now in ((self.count, counts), (self.sum, sums)):
            forgotten = dead.reshape(-1, *(1,) * (now.ndim - 1))
            running.value = self.decay * jnp.where(forgotten, 0, running.value) + (1 - self.decay) * now
        weight = 1 - self.decay ** self.steps.value.astype(jnp.float32)
        count, total = self.count.value / weight, self.count.value.sum() / weight
        smooth = (count + self.smoothing) / (total + self.entries * self.smoothing) * total
        moved = self.sum.value / weight / smooth[:, None]
        # An entry that was never used keeps its value.
        self.means.value = jnp.where(count[:, None] > 0, moved, self.means.value)

    def _fresh(self, codes: jax.Array) -> jax.Array:
        """Returns one code per entry [K, width], spread evenly over the global batch. Positions change per batch."""
        devices, device = (1, 0) if self.axis is None else (jax.lax.axis_size(self.axis), jax.lax.axis_index(self.axis))
        count = len(codes) * devices
        spread = np.arange(self.entries, dtype=np.int64) * stride(count) % count
        place = (spread.astype(np.int32) + self.steps.value % count) % count - device * len(codes)
        here = (place >= 0) & (place < len(codes))
        return self._total(jnp.where(here[:, None], codes[place.clip(0, len(codes) - 1)], 0))


class ScalarQuantizer(nn.Module):
    """Rounds each channel to one of `levels[d]` values: float32 [B, ..., D] -> Quantized (Mentzer et al. 2023).

    There is no codebook to learn. The K = prod(levels) entries are the points of a grid in [-1, 1]^D. With L levels in
    a channel and h = (L - 1) (1 - 10^-3) / 2, a code z becomes the integer

        round(h tanh(z + s) - o),  o = 0 for odd L and 1/2 for even L,  s = artanh(o / h)  (appendix A.1),

    divided by floor(L / 2). The shift s maps 0 to 0, so L must be at least 3. Gradients pass through the rounding. The
    first channel has the lowest place value in an index.
    """

    levels: tuple[int, ...]
    axis: str | None = None

    @property
    def entries(self) -> int:
        """Returns the number of codes K."""
        return math.prod(self.levels)

    @property
    def width(self) -> int:
        """Returns the number of channels D."""
        return len(self.levels)

    def look_up(self, indices: jax.Array) -> jax.Array:
        """Looks up entries by index: int32 [B, ...] -> [B, ..., D]."""
        levels, places, half = self._numbers(indices.ndim)
        return (indices[..., None] // places % levels - half).astype(jnp.float32) / half

    def __call__(self, codes: jax.Array, train: bool) -> Quantized:
        levels, places, half = self._numbers(codes.ndim - 1)
        reach = np.asarray((levels - 1) * (1 - 1e-3) / 2, np.float32)
        offset = np.asarray(1 - levels % 2, np.float32) / 2
        bounded = jnp.tanh(codes + np.arctanh(offset / reach)) * reach - offset
        digits = jax.lax.stop_gradient(jnp.round(bounded))
        indices = ((digits.astype(jnp.int32) + half) * places).sum(-1)
        axis = self.axis if train and not self.is_initializing() else None
        entries = digits / half
        return Quantized(
            straight_through(bounded / half, entries), entries, indices, usage(indices, self.entries, axis)
        )

    def _numbers(self, leading: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns levels, place values and floor(L / 2) per channel, int32 with `leading` axes before the channels."""
        levels = np.array(self.levels, np.int32).reshape((1,) * leading + (-1,))
        places = np.cumprod([1, *self.levels[:-1]], dtype=np.int32).reshape(levels.shape)
        return levels, places, levels // 2


def straight_through(codes: jax.Array, entries: jax.Array) -> jax.Array:
    """Returns the entries; their gradient passes to the codes unchanged (van den Oord et al. 2017, section 3.2)."""
    return codes + jax.lax.stop_gradient(entries - codes)


def usage(indices: jax.Array, entries: int, axis: str | None = None) -> jax.Array:
    """Returns the fraction of indices int32 [...] that name each entry, over all devices of `axis`: [entries]."""
    counts = jnp.zeros(entries).at[indices.ravel()].add(1.0)
    counts = counts if axis is None else jax.lax.psum(counts, axis)
    return counts / counts.sum()


def nearest(codes: jax.Array, entries: jax.Array) -> jax.Array:
    """Returns the index of the entry [K, D] nearest to each code [N, D]: int32 [N].

    The term |z|^2 of the distance is omitted, because it is equal for all entries.
    """
    distance = jnp.square(entries).sum(1)[None] - 2 * jnp.matmul(codes, entries.T, precision=EXACT)
    return distance.argmin(1).astype(jnp.int32)


def stride(count: int) -> int:
    """Returns a step near 0.618 * count, coprime to `count`, so that it visits all positions before repeating."""
    return next(step for step in range(max(1, round(0.618 * count)), 2 * count + 1) if math.gcd(step, count) == 1)
