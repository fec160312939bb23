"""Masked models of tokens: schedules, iterative decoding (MaskGIT), and diffusion with an absorbing state.

A schedule maps the revealed share of a decoding, r in [0, 1], to the masked share of the tokens: from 1 to 0 (Chang et
al. 2022, section 3.3). In diffusion, r = 1 - t, and a token is kept with probability alpha(t) = 1 - schedule(1 - t).
Tokens are int32 [N, places] in 0 ... K - 1; K itself is the mask token.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from genlab.autoregressive import filters
from genlab.autoregressive.filters import Filters
from genlab.noise import stream, uniform

Schedule = Callable[[jax.Array], jax.Array]  # revealed share r in [0, 1] -> masked share in [0, 1]
Predict = Callable[[jax.Array], jax.Array]  # tokens with masks [N, places] -> logits [N, places, K]

SCHEDULES: dict[str, Schedule] = {
    'cosine': lambda r: jnp.cos(jnp.pi / 2 * r),
    'linear': lambda r: 1 - r,  # alpha(t) = 1 - t, the log-linear schedule of Sahoo et al. 2024
    'square': lambda r: 1 - r**2,
    'cubic': lambda r: 1 - r**3,
    'square_root': lambda r: 1 - jnp.sqrt(r),
}
EARLIEST = 1e-5  # lowest time of the bound, and its distance from 1: at these ends a weight can be infinite


def mask_some(keys: jax.Array, shares: jax.Array, places: int) -> jax.Array:
    """Draws masks with a given number of masked places, as MaskGIT is trained.

    Args:
        keys: one key per example [B].
        shares: masked share of each example, [B] in [0, 1].
        places: number of places, n.

    Returns:
        bool [B, n], true at ceil(n share) random places, at least at one.
    """
    ranks = _ranks(uniform(keys, (places,), 'mask'))
    return ranks < jnp.clip(jnp.ceil(places * shares), 1, places)[:, None]


def absorb(keys: jax.Array, shares: jax.Array, places: int) -> jax.Array:
    """Draws which places are absorbed, independently: bool [B, places].

    Args:
        keys: one key per example [B].
        shares: probability of each example, 1 - alpha(t), [B].
        places: number of places.
    """
    return uniform(keys, (places,), 'absorbed') < shares[:, None]


def masked_share(schedule: Schedule, t: jax.Array) -> jax.Array:
    """Returns the probability that a token is absorbed at times t in [0, 1], 1 - alpha(t)."""
    return schedule(1 - t)


def bound_weight(schedule: Schedule, t: jax.Array) -> jax.Array:
    """Returns the weight of the bound, -alpha'(t) / (1 - alpha(t)), at times t in (0, 1], [B]."""
    share, slope = jax.jvp(lambda t: masked_share(schedule, t), (t,), (jnp.ones_like(t),))
    return slope / share


def iterate(
    predict: Predict,
    places: int,
    entries: int,
    keys: jax.Array,
    *,
    steps: int,
    schedule: Schedule,
    noise: float = 4.5,
    filtered: Filters = Filters(),
    known: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Decodes all places in a few steps, the most confident first (Chang et al. 2022, section 3.2).

    Each step draws every masked token. It keeps the most confident ones: those with the largest log-probability plus
    `noise` (1 - r) times Gumbel noise. The schedule says how many stay masked, and each step keeps at least one.

    Args:
        predict: the network, with guidance if wanted.
        places: number of places.
        entries: size of the codebook, K; also the mask token.
        keys: one key per example [N].
        steps: number of steps, T. Each costs one pass of the network.
        schedule: masked share after a share r of the steps.
        noise: temperature of the Gumbel noise in the confidence; at 0 there is none.
        filtered: filters of the logits that tokens are drawn from. Guidance is not applied here.
        known: tokens to keep where `mask` is true, [N, places].
        mask: where tokens are known, [N, places].

    Returns:
        Tokens int32 [N, places].
    """
    x = _start(keys, places, entries, known, mask)
    unknown = (x == entries).sum(1)

    def step(x: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        logits, hidden, r = predict(x), x == entries, (number + 1) / steps
        drawn = _categorical(stream(keys, 'token', number), filters.apply(filtered, logits))
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[..., None], -1)[..., 0]
        gumbel = jax.vmap(lambda key: jax.random.gumbel(key, (places,)))(stream(keys, 'confidence', number))
        confidence = jnp.where(hidden, log_p + noise * (1 - r) * gumbel, jnp.inf)
        left = jnp.floor(schedule(r) * unknown)
        left = jnp.where(number + 1 == steps, 0, jnp.clip(left, 0, jnp.maximum(hidden.sum(1) - 1, 0)))
        still = hidden & (_ranks(confidence) < left[:, None])
        return jnp.where(hidden & ~still, drawn, x), None

    return jax.lax.scan(step, x, jnp.arange(steps))[0]


def denoise(
    predict: Predict,
    places: int,
    entries: int,
    keys: jax.Array,
    *,
    steps: int,
    schedule: Schedule,
    filtered: Filters = Filters(),
    known: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Samples the reverse process of diffusion with an absorbing state (Austin et al. 2021, section 3).

    From time t to s, an absorbed token is revealed with probability (alpha(s) - alpha(t)) / (1 - alpha(t)), and then
    drawn from the network's p(x | z_t). A revealed token stays (Sahoo et al. 2024, equation 7). Times are even.

    Args:
        predict, places, entries, keys, filtered, known, mask: as for `iterate`.
        steps: number of steps from t = 1 to 0. Each costs one pass of the network.
        schedule: masked share of training; alpha(t) = 1 - schedule(1 - t).

    Returns:
        Tokens int32 [N, places].
    """

    def step(x: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        t, s = 1 - number / steps, 1 - (number + 1) / steps
        stay = jnp.where(number + 1 == steps, 0, masked_share(schedule, s) / masked_share(schedule, t))
        drawn = _categorical(stream(keys, 'token', number), filters.apply(filtered, predict(x)))
        revealed = uniform(keys, (places,), 'revealed', number) >= stay
        return jnp.where((x == entries) & revealed, drawn, x), None

    return jax.lax.scan(step, _start(keys, places, entries, known, mask), jnp.arange(steps))[0]


def _start(keys: jax.Array, places: int, entries: int, known: jax.Array | None, mask: jax.Array | None) -> jax.Array:
    """Returns tokens that are masked but where they are known, int32 [N, places]."""
    x = jnp.full((len(keys), places), entries, jnp.int32)
    return x if known is None or mask is None else jnp.where(mask.astype(bool), known, x)


def _categorical(keys: jax.Array, logits: jax.Array) -> jax.Array:
    """Draws a token per place from logits [N, places, K], with one key per example: int32 [N, places]."""
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def _ranks(values: jax.Array) -> jax.Array:
    """Returns the rank of each value within its row [N, M], 0 for the lowest."""
    return jnp.argsort(jnp.argsort(values, -1), -1)
