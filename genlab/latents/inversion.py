"""Inversion: finds the code of a given image by optimisation through the decoder."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

RATE = 0.1  # learning rate of Adam, in standard deviations of the codes


@functools.lru_cache(maxsize=16)
def inverter(decode: Callable[[Any, jax.Array], jax.Array], steps: int, rate: float = RATE) -> Callable:
    """Compiles a function (variables, (targets [B, ...], starts [B, ...], scales [B, ...])) -> (codes, errors [2, B]).

    It minimises z = argmin |decode(z) - x|^2, summed over pixels (Zhu et al. 2016, section 3.1), with Adam and a cosine
    schedule to zero. Codes are optimised independently, in units of `scales`, their standard deviations. The best code
    of all steps is kept. The two errors are before, at the starts, and after, at the codes returned.

    Args:
      decode: (variables, codes [B, ...]) -> images [B, ...]. Codes are arrays, not trees.
      steps: of Adam.
      rate: of Adam, in units of `scales`.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def invert(variables: Any, examples: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        targets, starts, scales = examples

        def total(units: jax.Array) -> tuple[jax.Array, jax.Array]:
            difference = decode(variables, starts + scales * units).astype(jnp.float32) - targets
            errors = jnp.sum(jnp.square(difference), tuple(range(1, targets.ndim)))
            return jnp.sum(errors), errors  # the gradient of the sum contains the gradient of each code

        def keep(best: tuple, units: jax.Array, errors: jax.Array) -> tuple:
            better = errors < best[1]
            codes = jnp.where(better.reshape(-1, *[1] * (units.ndim - 1)), units, best[0])
            return codes, jnp.where(better, errors, best[1])

        def step(_: jax.Array, carry: tuple) -> tuple:
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
    """Returns the best of `restarts` consecutive codes for each target.

    Args:
      codes: [N R, ...].
      errors: [2, N R], before and after.
      restarts: R.

    Returns:
      codes [N, ...], errors [2, N]. The error before is the lowest of the starts.
    """
    before, after = errors.reshape(2, -1, restarts)
    winner = after.argmin(1)
    codes = codes.reshape(-1, restarts, *codes.shape[1:])[np.arange(len(winner)), winner]
    return codes, np.stack([before.min(1), after.min(1)])
