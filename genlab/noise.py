"""Named streams of randomness: noise is a pure function of an example's key, the name of its use, and a number.

Two uses of one key must have two names. `number` tells apart draws of one use, such as the steps of a solver.
"""

import jax

# TEMPORARY: the numbers that were folded into keys before streams had names.
LEGACY: dict[str, int | None] = {
    'latent': None,
    'mixing': 1,
    'posterior': 0,
    'importance': 0,
    'class': 5,
    'first_class': 1,
    'deviation': 2,
    'nested': 1,
    'isometry': 2,
    'inner': 1,
    'solver': 0,
    'noise': 0,
    'corruption': None,
    'first_stage': 6,
}


def stream(keys: jax.Array, name: str, number: int | jax.Array = 0) -> jax.Array:
    """Derives the keys of a use: keys [B] -> keys [B]."""
    base = LEGACY[name]
    if base is None:
        return keys
    return jax.vmap(jax.random.fold_in, (0, None))(keys, base + number)


def normal(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws N(0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(stream(keys, name, number))


def uniform(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws from [0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(stream(keys, name, number))
