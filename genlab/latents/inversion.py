"""The code of a given image, found through the decoder alone."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

RATE = 0.1  # of Adam, in standard deviations of the codes


@functools.lru_cache(maxsize=16)
def inverter(decode: Callable[[Any, jax.Array], jax.Array], steps: int, rate: float = RATE) -> Callable:
    """A compiled function (variables, (targets [B, ...], starts [B, ...], scales [B, ...])) -> (codes, errors [2, B]).

    z = argmin |decode(z) - x|^2, summed over the pixels (Zhu et al. 2016, section 3.1), by `steps` of Adam whose rate goes to
    zero as a cosine. Every code is optimised on its own, in units of `scales`, its standard deviations; the best that was
    seen is kept. The errors are those of the starts and of the codes returned."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def invert(variables, examples):
        targets, starts, scales = examples

        def total(units):
            difference = decode(variables, starts + scales * units).astype(jnp.float32) - targets
            errors = jnp.sum(jnp.square(difference), tuple(range(1, targets.ndim)))
            return jnp.sum(errors), errors  # the gradient of the sum holds each code's own

        def keep(best, units, errors):
            better = errors < best[1]
            return jnp.where(better.reshape(-1, *[1] * (units.ndim - 1)), units, best[0]), jnp.where(
                better, errors, best[1]
            )

        def step(_, carry):
            units, moments, best = carry
            gradient, errors = jax.grad(total, has_aux=True)(units)
            updates, moments = optimizer.update(gradient, moments)
            return optax.apply_updates(units, updates), moments, keep(best, units, errors)

        units = jnp.zeros_like(starts)
        before = total(units)[1]
        units, _, best = jax.lax.fori_loop(0, steps, step, (units, optimizer.init(units), (units, before)))
        units, after = keep(best, units, total(units)[1])
        return starts + scales * units, jnp.stack([before, after])

    return jax.jit(invert)


def best(codes: np.ndarray, errors: np.ndarray, restarts: int) -> tuple[np.ndarray, np.ndarray]:
    """Of `restarts` neighbours each the one that ends best: codes [N R, ...], errors [2, N R] -> codes [N, ...], errors [2, N].

    The error before is that of the best start."""
    before, after = errors.reshape(2, -1, restarts)
    winner = after.argmin(1)
    codes = codes.reshape(-1, restarts, *codes.shape[1:])[np.arange(len(winner)), winner]
    return codes, np.stack([before.min(1), after.min(1)])
