"""Named streams of randomness: noise is a pure function of an example's key, the name of its use, and a number.

Two uses of one key need two names. `number` tells apart the draws of one use, such as the steps of a solver.
"""

import jax

# The number that a name folds into a key; `number` is added to it. None leaves the key as it is. Equal sums give equal noise,
# so names share a number only where no model uses both. Two collisions are known: 'class' and step 5 of 'solver';
# 'bound_noise' and 'bound_time' with more than 90 bound times.
STREAMS: dict[str, int | None] = {
    'latent': None,
    'corruption': None,
    'noise': 0,
    'posterior': 0,
    'solver': 0,
    'mixing': 1,
    'nested': 1,
    'inner': 1,
    'first_class': 1,
    'corrector': 1,
    'first_step': 1,
    'isometry': 2,
    'deviation': 2,
    'drop': 2,
    'known': 2,
    'time': 3,
    'first_level': 4,
    'class': 5,
    'first_stage': 6,
    'span': 6,
    'augmentation': 7,
    'bound_noise': 10,
    'bound_time': 100,
}


def stream(keys: jax.Array, name: str, number: int | jax.Array = 0) -> jax.Array:
    """Derives the keys of a use: keys [B] -> keys [B]."""
    start = STREAMS[name]
    if start is None:
        return keys
    return jax.vmap(jax.random.fold_in, (0, None))(keys, start + number)


def normal(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws N(0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(stream(keys, name, number))


def uniform(keys: jax.Array, shape: tuple[int, ...], name: str, number: int | jax.Array = 0) -> jax.Array:
    """Draws from [0, 1) per key: [B, *shape]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(stream(keys, name, number))
