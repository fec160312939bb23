"""Conditions of a network over places: keyword arguments of its call, dropped at random in training.

`label` becomes class weights, float [N, classes], whose null class has the weights 0. `caption` stays int32 [N, L],
whose null caption is padding, 0. Any other entry, such as `context`, is passed on and never dropped.
"""

import jax
import jax.numpy as jnp

from genlab.abilities import Batch
from genlab.conditioning import Condition, Conditions, from_batch
from genlab.noise import uniform

DROPPED = ('label', 'caption')


def embed(conditions: Conditions, condition: Condition) -> dict[str, jax.Array]:
    """Returns the keyword arguments of a condition: `label` int32 [N] as class weights, the rest as it is."""
    named = dict(condition)
    if conditions.classes:
        named['label'] = jax.nn.one_hot(condition['label'], conditions.classes)
    return named


def of_batch(conditions: Conditions, batch: Batch) -> dict[str, jax.Array]:
    """Returns the keyword arguments for the examples of a batch, whose `context` is included if there is one."""
    context = {'context': batch['context']} if 'context' in batch else {}
    return embed(conditions, {**from_batch(conditions, batch), **context})


def dropped(keys: jax.Array, probability: float) -> jax.Array:
    """Draws which examples lose their condition, bool [B], from one key per example [B]."""
    return uniform(keys, (), 'drop') < probability


def drop(named: dict[str, jax.Array], lost: jax.Array) -> dict[str, jax.Array]:
    """Replaces label and caption of the examples `lost`, bool [B], by the null condition."""
    return {
        name: jnp.where(lost[:, None], jnp.zeros_like(value), value) if name in DROPPED else value
        for name, value in named.items()
    }


def null(named: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns keyword arguments with the null label and the null caption."""
    return {name: jnp.zeros_like(value) if name in DROPPED else value for name, value in named.items()}
