"""Filters of logits [..., K] before a token is drawn: temperature, top-k, top-p, and classifier-free guidance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.errors import ConfigError


class Filters(NamedTuple):
    """Holds the settings of all filters. The defaults change nothing."""

    temperature: float = 1.0  # at least 0; 0 keeps only the likeliest token
    top_k: int = 0  # number of tokens that are kept; 0: all
    top_p: float = 1.0  # probability of the smallest set of tokens that is kept, in (0, 1]
    guidance: float = 1.0  # guidance scale; 1: none


def check(filters: Filters, where: str = 'config.sample') -> None:
    """Raises ConfigError if a setting is out of its range. `where` is the dotted key of the settings."""
    for name, valid, known in (
        ('temperature', filters.temperature >= 0, 'a number of at least 0'),
        ('top_k', filters.top_k >= 0, '0 for all tokens, or a number of tokens'),
        ('top_p', 0 < filters.top_p <= 1, 'a probability above 0, at most 1'),
    ):
        if not valid:
            raise ConfigError(f'{where}.{name}={getattr(filters, name)}: choose {known}')


def apply(filters: Filters, logits: jax.Array) -> jax.Array:
    """Applies temperature, top-k and top-p, in this order, to logits [..., K]. Guidance needs two passes; see there."""
    return top_p(top_k(temperature(logits, filters.temperature), filters.top_k), filters.top_p)


def temperature(logits: jax.Array, value: float) -> jax.Array:
    """Divides logits [..., K] by the temperature. At 0, only the likeliest token is kept."""
    return top_k(logits, 1) if value == 0 else logits / value


def top_k(logits: jax.Array, count: int) -> jax.Array:
    """Keeps the `count` likeliest tokens and sets the logits [..., K] of the others to -infinity; 0 keeps all.

    (Fan et al. 2018, section 5.4.) Tokens as likely as the last one that is kept are kept too.
    """
    if not 0 < count < logits.shape[-1]:
        return logits
    return _keep_from(logits, jax.lax.top_k(logits, count)[0][..., -1:])


def top_p(logits: jax.Array, share: float) -> jax.Array:
    """Keeps the smallest set of likeliest tokens whose probabilities sum to `share` or more; 1 keeps all.

    (Holtzman et al. 2020, section 3.1.) The logits [..., K] of the others become -infinity. Tokens as likely as the
    last one that is kept are kept too.

    >>> print(top_p(jnp.log(jnp.array([0.5, 0.3, 0.2])), 0.7) > -jnp.inf)  # 0.5 alone is less than 0.7
    [ True  True False]
    """
    if share >= 1:
        return logits
    falling = -jnp.sort(-logits, -1)
    probabilities = jax.nn.softmax(falling, -1)
    before = jnp.cumsum(probabilities, -1) - probabilities
    return _keep_from(logits, jnp.where(before < share, falling, jnp.inf).min(-1, keepdims=True))


def guide(conditional: jax.Array, null: jax.Array, scale: float) -> jax.Array:
    """Mixes two estimates: null + scale (conditional - null), as in classifier-free guidance of logits.

    (Ho and Salimans 2022, equation 6, whose w is scale - 1; Chang et al. 2023, section 2.7.)

    Args:
        conditional: logits with the condition, [..., K].
        null: logits with the null condition, [..., K].
        scale: guidance scale. 1 gives `conditional`, 0 gives `null`.

    Returns:
        Logits [..., K].
    """
    return null + scale * (conditional - null)


def _keep_from(logits: jax.Array, lowest: jax.Array) -> jax.Array:
    """Sets logits below `lowest` [..., 1] to -infinity."""
    return jnp.where(logits >= lowest, logits, -jnp.inf)
