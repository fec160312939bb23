"""A gated recurrent layer that reads sequences of different lengths in both directions."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

INIT = nn.initializers.lecun_normal(batch_axis=(0,))  # for kernels with one matrix per direction


class BidirectionalGRU(nn.Module):
    """Reads x [B, T, C] forwards and backwards: [B, T, 2 * features], where `mask` [B, T] is true. Elsewhere it is 0.

    Each direction is a gated recurrent unit (Cho et al. 2014, equations 5 to 8, with the reset gate after the product):

        r = s(W_r x + U_r h + b_r),  z = s(W_z x + U_z h + b_z),
        n = tanh(W_n x + b_n + r (U_n h + c)),  h' = (1 - z) n + z h.

    A masked step leaves h as it is, so padding changes nothing. Both directions are one scan: its matrix products are
    small, and a CPU spends its time on the number of them.
    """

    features: int  # units per direction
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        size = self.features
        kernel = self.param('kernel', INIT, (2, x.shape[-1], 3 * size))
        bias = self.param('bias', nn.initializers.zeros_init(), (2, 3 * size))
        recurrent = self.param('recurrent', INIT, (2, size, 3 * size)).astype(self.dtype)
        inner = self.param('inner', nn.initializers.zeros_init(), (2, size))  # c
        both = jnp.stack([x, x[:, ::-1]]).astype(self.dtype)
        inputs = jnp.einsum('dbtc,dck->tdbk', both, kernel.astype(self.dtype)) + bias[None, :, None].astype(self.dtype)
        there = jnp.stack([mask, mask[:, ::-1]]).transpose(2, 0, 1)[..., None]  # [T, 2, B, 1]

        def step(h: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            given, valid = now
            products = jnp.einsum('dbh,dhk->dbk', h, recurrent)
            gates = nn.sigmoid(given[..., : 2 * size] + products[..., : 2 * size])
            reset, kept = gates[..., :size], gates[..., size:]
            rest = products[..., 2 * size :] + inner[:, None].astype(self.dtype)
            new = nn.tanh(given[..., 2 * size :] + reset * rest)
            h = jnp.where(valid, (1 - kept) * new + kept * h, h)
            return h, jnp.where(valid, h, 0)

        start = jnp.zeros((2, len(x), size), self.dtype)
        _, read = lax.scan(step, start, (inputs, there))
        joined = jnp.concatenate([read[:, 0], read[::-1, 1]], -1)  # [T, B, 2 * features]
        return joined.swapaxes(0, 1).astype(jnp.float32)
