"""Draws the places of an example one after another, with a cache of what the network knows of those before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from genlab.autoregressive.filters import guide
from genlab.noise import stream

Cache = Any  # a pytree of arrays of fixed shapes
Start = Callable[[], Cache]
Advance = Callable[[Cache, jax.Array, jax.Array], tuple[Any, Cache]]  # (cache, previous, place) -> (output, cache)
Draw = Callable[[Any, jax.Array], jax.Array]  # (output of a place [N, ...], keys [N]) -> value [N, ...]


def generate(
    start: Start,
    advance: Advance,
    places: int,
    draw: Draw,
    keys: jax.Array,
    known: jax.Array | None = None,
    mask: jax.Array | None = None,
    blank: jax.Array | None = None,
) -> jax.Array:
    """Draws all places in order, in one loop that is compiled once.

    The noise of a place depends on the example's key and the number of the place alone.

    Args:
        start: returns the cache before the first place.
        advance: predicts a place from the cache and the value of the place before, which it ignores at place 0.
        places: number of places.
        draw: draws the value of a place from the output of `advance`.
        keys: one key per example [N].
        known: values to keep where `mask` is true, [N, places, ...]; None: none.
        mask: where values are known, [N, places]; true or 1 for known.
        blank: an array of the shape and type of a value, [N, ...]; None: tokens, int32 [N].

    Returns:
        Values [N, places, ...].
    """
    first = jnp.zeros(keys.shape, jnp.int32) if blank is None else jnp.zeros_like(blank)

    def step(carry, place):
        cache, previous = carry
        output, cache = advance(cache, previous, place)
        value = draw(output, stream(keys, 'token', place))
        if known is not None and mask is not None:
            kept = jnp.take(mask, place, 1).astype(bool).reshape(-1, *[1] * (value.ndim - 1))
            value = jnp.where(kept, jnp.take(known, place, 1), value)
        return (cache, value), value

    _, values = jax.lax.scan(step, (start(), first), jnp.arange(places, dtype=jnp.int32))
    return jnp.moveaxis(values, 0, 1)


def guided(start: Callable[..., Cache], advance: Advance, conditions: tuple[Any, Any], scale: float):
    """Returns `start` and `advance` with classifier-free guidance: one pass over the examples with and without.

    Args:
        start: from the number of examples and a condition, by keyword, to a cache.
        advance: as for `generate`.
        conditions: the condition and the null condition, leaves [N, ...] each.
        scale: guidance scale.

    Returns:
        The two functions for `generate`.
    """
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *conditions)
    count = len(jax.tree.leaves(conditions[0])[0])

    def advance_both(cache: Cache, previous: jax.Array, place: jax.Array) -> tuple[Any, Cache]:
        output, cache = advance(cache, jnp.concatenate([previous, previous]), place)
        conditional, null = jnp.split(output, 2)
        return guide(conditional, null, scale), cache

    return lambda: start(2 * count, **both), advance_both
