"""Masked models of tokens: MaskGIT (Chang et al. 2022), and diffusion with an absorbing state (Sahoo et al. 2024).

Both train a network to predict masked tokens from the others (`genlab.networks.autoregressive.masked_transformer`).
They differ in the weight of the masks and in the sampler, so one model offers the terms and the samplers of both.

For the arguments that all families share, see `genlab.models`. `batch['context']`, if there is one, conditions the
network: the codes of another level. A condition may hold it too.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.autoregressive import conditions, masking
from genlab.autoregressive.filters import Filters, guide
from genlab.autoregressive.masking import Schedule
from genlab.autoregressive.tokens import Tokens, known_places
from genlab.choices import named
from genlab.conditioning import Condition, Conditions
from genlab.diffusion.times import stratified
from genlab.errors import ConfigError, choose
from genlab.losses.masked_tokens import absorbing_bound, masked_token_cross_entropy
from genlab.models.autoregressive import check_guidance, sampling_filters
from genlab.models.autoregressive import sampling as autoregressive_sampling
from genlab.models.autoregressive import settings as autoregressive_settings
from genlab.noise import named_key, stream, uniform
from genlab.training.state import Network


class Masked(NamedTuple):
    """Holds a network over tokens with masks, the tokens, the schedule, and how to sample."""

    network: nn.Module
    tokens: Tokens
    schedule: Schedule
    # (predict, places, entries, keys, *, schedule, filtered, known, mask) -> tokens [N, places]
    sampler: Callable[..., jax.Array]
    filtered: Filters = Filters()  # filters of samples, with the guidance scale
    name: str = 'network'  # name of the network among the variables
    conditions: Conditions = Conditions()
    drop_condition: float = 0.0  # probability of the null condition in training
    smoothing: float = 0.0  # smoothing of the labels in the term cross_entropy
    bound_times: int = 4  # times per example at which the bound is measured
    batch_size: int = 0  # size of the global batch, over which the times of the term `bound` are stratified
    seed: int = 0  # seed of the stratified times

    @property
    def places(self) -> int:
        """Returns the number of places."""
        return math.prod(self.tokens.shape)


def settings(network: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a masked model, with changes: its own settings and those of autoregressive models."""
    own = dict(
        schedule='cosine',  # masked share of the tokens, of genlab.autoregressive.masking.SCHEDULES
        smoothing=0.1,  # smoothing of the labels, for the term cross_entropy
        bound_times=4,  # number of times per example at which the bound is measured
    )
    own |= {name: changes.pop(name) for name in own.keys() & changes}
    return own | autoregressive_settings(network, **changes)


def sampling(**changes: Any) -> dict[str, Any]:
    """Returns `config.sample` of a masked model, with changes: iterative decoding in 12 steps.

    The sampler is named: `iterate` with the option `noise`, or `denoise` (genlab.autoregressive.masking), with `steps`.
    """
    own = {'sampler': changes.pop('sampler', named('iterate', steps=12))}
    return own | autoregressive_sampling(**changes)


def from_config(config: ConfigDict, network: nn.Module, tokens: Tokens, *, name: str = 'network') -> Masked:
    """Makes the model of `config.model` and `config.sample`, see `settings` and `sampling`.

    Args:
        config: the config.
        network: the network, made for the grid, the entries and the conditions.
        tokens: what it predicts.
        name: name of the network among the variables.

    Raises:
        ConfigError: parts of the config contradict each other, or a choice is unknown.
    """
    model, conditioned = config.model, Conditions(config.model.classes, config.model.words)
    check_guidance(config, conditioned)
    if not 0 <= model.smoothing < 1:
        raise ConfigError(f'config.model.smoothing={model.smoothing}: choose a number from 0 to below 1')
    options = choices.options(config.sample.sampler)
    if options.get('steps', 1) < 1:
        raise ConfigError(f'config.sample.sampler.steps={options["steps"]}: take 1 step or more')
    return Masked(
        network,
        tokens,
        choose(masking.SCHEDULES, model.schedule, 'config.model.schedule'),
        choices.build(SAMPLERS, config.sample.sampler, 'config.sample.sampler'),
        sampling_filters(config),
        name,
        conditioned,
        model.drop_condition if conditioned.any else 0.0,
        model.smoothing,
        model.bound_times,
        config.data.batch_size,
        config.seed,
    )


def networks(model: Masked, batch: Batch) -> dict[str, Network]:
    """Returns the network by name, with inputs that initialise it."""
    tokens = model.tokens.enter(batch['x'])
    return {model.name: Network(model.network, (tokens, False), conditions.of_batch(model.conditions, batch))}


def predict(
    model: Masked,
    variables: Variables,
    tokens: jax.Array,
    mask: jax.Array,
    arguments: dict[str, jax.Array],
    train: bool = False,
    keys: jax.Array | None = None,
) -> jax.Array:
    """Predicts all tokens from those outside of a mask.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        tokens: int32 [B, h, w].
        mask: which of them are hidden from the network, bool [B, h * w].
        arguments: keyword arguments of the network.
        train: whether to run the network in training mode.
        keys: dropout keys, one per example [B], or None.

    Returns:
        Logits [B, h, w, entries].
    """
    seen = jnp.where(mask.reshape(tokens.shape), model.tokens.entries, tokens)
    apply: Callable[..., Any] = model.network.apply
    return apply(variables[model.name], seen, train, keys=keys, **arguments)


def terms(model: Masked, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the player, nats per example. Each hides its own random places.

    cross_entropy: loss of the masked tokens, with smoothed labels. The masked share is schedule(r), r ~ U[0, 1].
    bound: upper bound of the negative log-likelihood, at one time per example. Times are stratified over the batch.
    """
    tokens, whole = model.tokens.enter(batch['x']), conditions.of_batch(model.conditions, batch)
    arguments = conditions.drop(whole, conditions.dropped(keys, model.drop_condition))

    def at(mask: jax.Array) -> jax.Array:
        return predict(model, variables, tokens, mask, arguments, True, stream(keys, 'dropout'))

    def cross_entropy() -> jax.Array:
        shares = model.schedule(uniform(keys, (), 'share'))
        mask = masking.mask_some(keys, shares, model.places)
        return masked_token_cross_entropy(at(mask), tokens, mask.reshape(tokens.shape), smoothing=model.smoothing)

    def bound() -> jax.Array:
        key = jax.random.fold_in(named_key(jax.random.key(model.seed), 'time'), step)  # one for the whole global batch
        u = stratified(key, batch['position'], model.batch_size)
        return _bound(model, tokens, u, keys, at)

    return {'cross_entropy': cross_entropy, 'bound': bound}, {}


def _bound(
    model: Masked, tokens: jax.Array, u: jax.Array, keys: jax.Array, at: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Estimates the bound at times u [B] in [0, 1), nats [B]. `at` maps a mask [B, h * w] to logits."""
    t = jnp.clip(u, masking.EARLIEST, 1 - masking.EARLIEST)
    mask = masking.absorb(keys, masking.masked_share(model.schedule, t), model.places)
    weight = masking.bound_weight(model.schedule, t)
    return absorbing_bound(at(mask), tokens, mask.reshape(tokens.shape), weight)


def sample(model: Masked, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Draws one example per key by the sampler of the config."""
    return _generate(model, variables, keys, condition)


def inpaint(
    model: Masked, variables: Variables, batch: Batch, mask: jax.Array, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Draws the places where the mask is 0, given all others.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        batch: prepared batch, of which `x` holds the known places.
        mask: 1 where x is known and 0 elsewhere, [B, H, W, 1] or [B, H, W], where H and W are multiples of h and w.
        keys: one key per example [B].
        condition: condition of the samples, leaves [B, ...].

    Returns:
        Data, of the shape of batch['x'].
    """
    tokens = model.tokens.enter(batch['x'])
    known = tokens.reshape(len(tokens), -1)
    return _generate(model, variables, keys, condition, known, known_places(mask, model.tokens.shape))


def _generate(
    model: Masked,
    variables: Variables,
    keys: jax.Array,
    condition: Condition,
    known: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    arguments, count, scale = conditions.embed(model.conditions, condition), len(keys), model.filtered.guidance
    none = conditions.null(arguments)
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), arguments, none)
    apply: Callable[..., Any] = functools.partial(model.network.apply, variables[model.name])

    def at(tokens: jax.Array) -> jax.Array:
        grid = tokens.reshape(-1, *model.tokens.shape)
        if scale == 1:
            logits = apply(grid, False, **arguments)
        else:  # one pass over the examples with and without condition
            conditional, null = jnp.split(apply(jnp.concatenate([grid, grid]), False, **both), 2)
            logits = guide(conditional, null, scale)
        return logits.reshape(count, model.places, -1)

    tokens = model.sampler(
        at,
        model.places,
        model.tokens.entries,
        keys,
        schedule=model.schedule,
        filtered=model.filtered,
        known=known,
        mask=mask,
    )
    return model.tokens.leave(tokens.reshape(count, *model.tokens.shape))


def measure(model: Masked, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures `nll_bound`, an upper bound of the negative log-likelihood given the condition, in nats per example.

    It is estimated at `bound_times` times per example, one in each of as many equal strata of [0, 1].
    """
    tokens, arguments = model.tokens.enter(batch['x']), conditions.of_batch(model.conditions, batch)

    def one(number: jax.Array) -> jax.Array:
        u = (number + uniform(keys, (), 'bound_time', number)) / model.bound_times
        at = lambda mask: predict(model, variables, tokens, mask, arguments)
        return _bound(model, tokens, u, stream(keys, 'bound_mask', number), at)

    return {'nll_bound': jax.lax.map(one, jnp.arange(model.bound_times)).mean(0)}


def _iterate(*, steps: int = 12, noise: float = 4.5) -> Callable[..., jax.Array]:
    return functools.partial(masking.iterate, steps=steps, noise=noise)


def _denoise(*, steps: int = 64) -> Callable[..., jax.Array]:
    return functools.partial(masking.denoise, steps=steps)


SAMPLERS = {'iterate': _iterate, 'denoise': _denoise}  # name -> a function of its options
