"""Named streams of randomness: noise is a pure function of an example's key, the name of its use, and a number.

    normal(keys, (3,), 'posterior')        # [B, 3], the same for the same keys
    uniform(keys, (), 'solver', number)    # one draw per step of a solver

Two uses of one key need two names. `number` separates the draws of one use. The noise of an example does not depend on
the batch:

>>> keys = jax.random.split(jax.random.key(0), 4)
>>> bool((normal(keys, (3,), 'posterior')[:2] == normal(keys[:2], (3,), 'posterior')).all())
True
"""

import zlib

import jax
import numpy as np


def named_key(key: jax.Array, name: str) -> jax.Array:
    """Folds the CRC-32 of a name into a key."""
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


def stream(keys: jax.Array, name: str, number: int | jax.Array = 0) -> jax.Array:
    """Derives the keys of one use.

    Args:
      keys: one key per example [B].
      name: of the use.
      number: of the draw, where one use draws several times.

    Returns:
      One key per example [B].
    """
    return jax.vmap(lambda key, number: jax.random.fold_in(named_key(key, name), number), (0, None))(keys, number)


def normal(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws N(0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(stream(keys, name, number))


def uniform(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws from [0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(stream(keys, name, number))
