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
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

THREEFRY = 'threefry2x32'  # JAX's default
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # rotations of Threefry-2x32, used in turn
PARITY = np.uint32(0x1BD11BDA)  # constant of its key schedule


def named_key(key: jax.Array, name: str) -> jax.Array:
    """Folds the CRC-32 of a name into each key: equal names give equal streams on every machine."""
    return fold_in(key, np.uint32(zlib.crc32(name.encode())))


def stream(keys: jax.Array, name: str, number: int | jax.Array = 0) -> jax.Array:
    """Derives the keys of one use.

    Args:
      keys: one key per example [B].
      name: name of the use.
      number: number of the draw, where one use draws several times.

    Returns:
      One key per example [B].
    """
    return fold_in(named_key(keys, name), number)


# JAX compiles Threefry for a CPU as a loop, whose state passes through memory in each of five iterations. Written out,
# it is part of the operation that uses the bits: 1 million values take a tenth of the time on two cores.


def fold_in(keys: jax.Array, number: int | np.uint32 | jax.Array) -> jax.Array:
    """Folds numbers into keys, of shapes that broadcast: the keys of `jax.random.fold_in`, faster on a CPU."""
    low = jnp.asarray(number).astype(jnp.uint32)
    if not _written_out(keys):
        shape = jnp.broadcast_shapes(keys.shape, low.shape)
        flat = jnp.broadcast_to(keys, shape).ravel(), jnp.broadcast_to(low, shape).ravel()
        return jax.vmap(jax.random.fold_in)(*flat).reshape(shape)
    words = threefry(*_words(keys), jnp.zeros_like(low), low)
    return jax.random.wrap_key_data(jnp.stack(words, -1), impl=THREEFRY)


def bits(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws random bits: the numbers of `jax.random.bits`, faster on a CPU.

    Args:
      keys: one key per example [B].
      shape: shape of the bits of an example.

    Returns:
      Bits, uint32 [B, *shape].
    """
    size = math.prod(shape)
    partitionable = getattr(jax.config, 'jax_threefry_partitionable', True)  # the flag may go: it is the default
    if not _written_out(keys) or not partitionable or size >= 2**32:
        return jax.vmap(lambda key: jax.random.bits(key, shape))(keys)
    first, second = (word[:, None] for word in _words(keys))
    counts = jnp.arange(size, dtype=jnp.uint32)[None]
    high, low = threefry(first, second, jnp.zeros_like(counts), counts)
    return (high ^ low).reshape(len(keys), *shape)


def _written_out(keys: jax.Array) -> bool:
    """Returns whether `threefry` makes the numbers of these keys."""
    return str(jax.random.key_impl(keys)) == THREEFRY


def _words(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the two words of keys, each of the shape of the keys."""
    first, second = jnp.unstack(jax.random.key_data(keys), axis=-1)
    return first, second


@partial(jax.jit, static_argnames='rounds')  # traced once per shape: it is a hundred operations
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
    """Draws N(0, 1) per key: [B, *shape], the values of `jax.random.normal`."""
    keys = stream(keys, name, number)
    if jnp.zeros(()).dtype != np.float32:  # 64 bits
        return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    least = np.nextafter(np.float32(-1), np.float32(0))
    spread = _fractions(keys, shape) * (np.float32(1) - least) + least  # in (-1, 1)
    return np.float32(math.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(least, spread))


def uniform(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws from [0, 1) per key: [B, *shape], the values of `jax.random.uniform`."""
    keys = stream(keys, name, number)
    if jnp.zeros(()).dtype != np.float32:  # 64 bits
        return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
    return _fractions(keys, shape)


def _fractions(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws multiples of 2^-23 in [0, 1) per key, float32 [B, *shape]: random bits are the mantissa of 1 to 2."""
    one = np.float32(1).view(np.uint32)
    return jax.lax.bitcast_convert_type(bits(keys, shape) >> np.uint32(9) | one, np.float32) - np.float32(1)
