"""Named streams of randomness: noise is a pure function of an example's key, the name of its use, and a number.

    normal(keys, (3,), 'posterior')        # [B, 3], the same for the same keys
    uniform(keys, (), 'solver', number)    # one draw per step of a solver

Two uses of one key need two names. `number` separates the draws of one use. The noise of an example does not depend on
the batch:

>>> keys = jax.random.split(jax.random.key(0), 4)
>>> bool((normal(keys, (3,), 'posterior')[:2] == normal(keys[:2], (3,), 'posterior')).all())
True
"""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # rotations of Threefry-2x32, used in turn
PARITY = np.uint32(0x1BD11BDA)  # constant of its key schedule


def named_key(key: jax.Array, name: str) -> jax.Array:
    """Folds the CRC-32 of a name into a key, so that equal names give equal streams on every machine."""
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


def stream(keys: jax.Array, name: str, number: int | jax.Array = 0) -> jax.Array:
    """Derives the keys of one use.

    Args:
      keys: one key per example [B].
      name: name of the use.
      number: number of the draw, where one use draws several times.

    Returns:
      One key per example [B].
    """
    return jax.vmap(lambda key, number: jax.random.fold_in(named_key(key, name), number), (0, None))(keys, number)


def bits(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws random bits: the numbers of `jax.random.bits`, faster on a CPU.

    JAX compiles Threefry for a CPU as a loop, whose state passes through memory in each of five iterations. Written
    out, it is part of the operation that uses the bits: 1 million values take a tenth of the time on two cores.

    Args:
      keys: one key per example [B].
      shape: shape of the bits of an example.

    Returns:
      Bits, uint32 [B, *shape].
    """
    size = math.prod(shape)
    partitionable = getattr(jax.config, 'jax_threefry_partitionable', True)  # the flag may go: it is the default
    if str(jax.random.key_impl(keys)) != 'threefry2x32' or not partitionable or size >= 2**32:
        return jax.vmap(lambda key: jax.random.bits(key, shape))(keys)
    first, second = (word[:, None] for word in jnp.unstack(jax.random.key_data(keys), axis=-1))
    counts = jnp.arange(size, dtype=jnp.uint32)[None]
    high, low = threefry(first, second, jnp.zeros_like(counts), counts)
    return (high ^ low).reshape(len(keys), *shape)


def threefry(
    first: jax.Array, second: jax.Array, high: jax.Array, low: jax.Array, rounds: int = 20
) -> tuple[jax.Array, jax.Array]:
    """Applies Threefry-2x32 (Salmon et al. 2011, section 4.1): the key's two words, a counter's two words -> two words.

    All are uint32 of shapes that broadcast. A group of four rounds ends with the next words of the key.
    """
    schedule = first, second, first ^ second ^ PARITY
    high, low = high + first, low + second
    for group in range(rounds // 4):
        for rotation in ROTATIONS[group % 2]:
            high = high + low
            low = (low << np.uint32(rotation) | low >> np.uint32(32 - rotation)) ^ high
        high = high + schedule[(group + 1) % 3]
        low = low + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return high, low


def bernoulli(keys: jax.Array, probability: float, shape: tuple[int, ...]) -> jax.Array:
    """Draws bool [B, *shape], true with a probability, a multiple of 2^-23: the values of `jax.random.bernoulli`."""
    limit = np.uint32(math.ceil(float(np.float32(probability)) * 2**23))
    return bits(keys, shape) >> np.uint32(9) < limit


def normal(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws N(0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(stream(keys, name, number))


def uniform(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws from [0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(stream(keys, name, number))
