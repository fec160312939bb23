"""Autoregressive models: a network predicts each place of a grid from those before it, and they are drawn in order.

van den Oord et al. 2016; Ramesh et al. 2021 for a caption before the grid. The model works with every network that has
`__call__`, `start` and `advance` (see `genlab.networks.autoregressive.transformer`), over tokens or over pixels.
`Values` says what the outputs of the network mean. A network that also predicts its caption has `joint`.

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
from genlab.autoregressive import conditions, decoding, filters
from genlab.autoregressive.filters import Filters
from genlab.autoregressive.tokens import Tokens, known_places
from genlab.conditioning import Condition, Conditions
from genlab.config import counted
from genlab.errors import ConfigError
from genlab.losses.tokens import token_cross_entropy
from genlab.noise import stream
from genlab.training.state import Network

Named = dict[str, jax.Array]  # keyword arguments of the network


class Values(NamedTuple):
    """Describes the values at the places of a grid: the input of a network, and the meaning of its outputs."""

    shape: tuple[int, int]  # h, w
    enter: Callable[[jax.Array], jax.Array]  # data x [B, ...] -> values [B, h, w] or [B, h, w, C]
    leave: Callable[[jax.Array], jax.Array]  # values -> data
    # (values, outputs [B, h, w, ...]) -> [B], nats, summed over the places
    negative_log: Callable[[jax.Array, jax.Array], jax.Array]
    draw: decoding.Draw  # (output of one place [N, ...], keys [N]) -> values of one place, [N] or [N, C]
    channels: int = 0  # C, of pixels as floats; 0: tokens, int32
    mixes: bool = True  # whether outputs are logits, which guidance can mix


class Autoregressive(NamedTuple):
    """Holds a network and the values that it predicts, and how to condition and to draw them."""

    network: nn.Module
    values: Values
    name: str = 'network'  # name of the network among the variables
    conditions: Conditions = Conditions()
    drop_condition: float = 0.0  # probability of the null condition in training
    guidance: float = 1.0  # guidance scale of samples; 1: none
    joint: bool = False  # whether the network predicts the caption too


def settings(network: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of an autoregressive model, with changes."""
    known = choices.filled(
        'config.model',
        dict(
            network=network,  # named: see NETWORKS in genlab.models.priors
            lower=choices.named('none'),  # named: of the other grids, if the tokenizer has several
            classes=0,  # number of labels that condition the network; 'auto': taken from the data; 0: none
            words=0,  # size of the vocabulary of captions, or 'auto'; 0: no captions
            drop_condition=0.1,  # probability of the null condition in training, for guidance
            patch=(1, 1),  # rows and columns of binary pixels that are one value
        ),
        changes,
    )
    return known | {name: counted(known[name]) for name in ('classes', 'words')}


def sampling(**changes: Any) -> dict[str, Any]:
    """Returns `config.sample` of an autoregressive model, with changes."""
    return choices.filled(
        'config.sample',
        dict(
            temperature=1.0,  # divides the logits; 0 draws the likeliest token
            top_k=0,  # number of likeliest tokens to draw from; 0: all
            top_p=1.0,  # probability of the smallest set of likeliest tokens to draw from
            guidance=1.0,  # guidance scale; 1: no guidance
            count=64,  # number of samples
            chunk=64,  # number of samples that are drawn at once
            condition=False,  # as in all models
        ),
        changes,
    )


def sampling_filters(config: ConfigDict) -> Filters:
    """Returns the filters of `config.sample`. Raises ConfigError if one is out of its range."""
    chosen = Filters(**{name: config.sample[name] for name in Filters._fields})
    filters.check(chosen)
    return chosen


def categorical(tokens: Tokens, chosen: Filters = Filters()) -> Values:
    """Returns the values of a network over tokens, whose outputs are logits [B, h, w, entries]."""

    def negative_log(values: jax.Array, logits: jax.Array) -> jax.Array:
        return token_cross_entropy(logits, values)

    def draw(logits: jax.Array, keys: jax.Array) -> jax.Array:
        return jax.vmap(jax.random.categorical)(keys, filters.apply(chosen, logits)).astype(jnp.int32)

    return Values(tokens.shape, tokens.enter, tokens.leave, negative_log, draw)


def from_config(
    config: ConfigDict, network: nn.Module, values: Values, *, name: str = 'network', joint: bool = False
) -> Autoregressive:
    """Makes the model of `config.model` and `config.sample`, see `settings` and `sampling`.

    Args:
        config: the config.
        network: the network, made for the grid, the entries and the conditions.
        values: what it predicts, with the filters of `sampling_filters`.
        name: name of the network among the variables.
        joint: whether it predicts the caption too.

    Raises:
        ConfigError: parts of the config contradict each other.
    """
    chosen, conditioned = sampling_filters(config), Conditions(config.model.classes, config.model.words)
    check_guidance(config, conditioned)
    if chosen.guidance != 1 and not values.mixes:
        raise ConfigError(
            f'config.sample.guidance={chosen.guidance} needs a network that predicts logits of tokens: set it to 1'
        )
    drop = config.model.drop_condition if conditioned.any else 0.0
    return Autoregressive(network, values, name, conditioned, drop, chosen.guidance, joint)


def check_guidance(config: ConfigDict, conditioned: Conditions) -> None:
    """Raises ConfigError if samples are guided, but the model has no condition, or no null condition is trained."""
    if config.sample.guidance == 1:
        return
    if not conditioned.any:
        raise ConfigError(
            f'config.sample.guidance={config.sample.guidance} needs a condition: set config.model.classes or '
            'config.model.words, or guidance to 1'
        )
    if not config.model.drop_condition:
        raise ConfigError(
            f'config.sample.guidance={config.sample.guidance} needs a null condition: set config.model.drop_condition '
            'above 0 and train, or set guidance to 1'
        )


def networks(model: Autoregressive, batch: Batch) -> dict[str, Network]:
    """Returns the network by name, with inputs that initialise it."""
    values = model.values.enter(batch['x'])
    return {model.name: Network(model.network, (values, False), conditions.of_batch(model.conditions, batch))}


def predict(
    model: Autoregressive,
    variables: Variables,
    values: jax.Array,
    named: Named,
    train: bool = False,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Predicts all places in one pass.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        values: values of the places, [B, h, w] or [B, h, w, C].
        named: keyword arguments of the network.
        train: whether to run the network in training mode.
        keys: dropout keys, one per example [B], or None.

    Returns:
        Outputs [B, h, w, ...], and the logits of the caption [B, L, words], or None if it is not predicted.
    """
    apply: Callable[..., Any] = functools.partial(model.network.apply, variables[model.name])
    if not model.joint:
        return apply(values, train, keys=keys, **named), None
    caption, outputs = apply(values, train, keys=keys, **named, method='joint')
    return outputs, caption


def terms(model: Autoregressive, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the player.

    cross_entropy: negative log-likelihood of the grid given the condition, nats per example.
    image, text: cross-entropies of the grid and of the caption, nats per token; only with a joint network. DALL-E has
        the weights 7/8 and 1/8. Padding counts, so that `text` is a likelihood of the caption. An example whose
        condition is dropped has no text; the others are scaled up for it.
    """
    values, whole = model.values.enter(batch['x']), conditions.of_batch(model.conditions, batch)
    lost = conditions.dropped(keys, model.drop_condition)
    outputs, caption = predict(
        model, variables, values, conditions.drop(whole, lost), train=True, keys=stream(keys, 'dropout')
    )
    negative = model.values.negative_log(values, outputs)
    offered = {'cross_entropy': negative}
    if caption is not None:
        text = token_cross_entropy(caption, batch['caption']) / caption.shape[1]
        offered['image'] = negative / math.prod(model.values.shape)
        offered['text'] = jnp.where(lost, 0, text) / (1 - model.drop_condition)
    return offered, {}


def sample(model: Autoregressive, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Draws one example per key, place by place."""
    return _generate(model, variables, keys, condition)


def inpaint(
    model: Autoregressive, variables: Variables, batch: Batch, mask: jax.Array, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Draws the places where the mask is 0, and keeps the others. A place depends on the known ones before it only.

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
    values = model.values.enter(batch['x'])
    known = values.reshape(len(values), -1, *values.shape[3:])
    return _generate(model, variables, keys, condition, known, known_places(mask, model.values.shape))


def _generate(
    model: Autoregressive,
    variables: Variables,
    keys: jax.Array,
    condition: Condition,
    known: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    named, count = conditions.embed(model.conditions, condition), len(keys)
    apply: Callable[..., Any] = functools.partial(model.network.apply, variables[model.name])
    start: Callable[..., Any] = functools.partial(apply, method='start')
    advance = functools.partial(apply, method='advance')
    bound = functools.partial(start, count, **named)
    if model.guidance != 1:
        bound, advance = decoding.guided(start, advance, (named, conditions.null(named)), model.guidance)
    values = decoding.generate(
        bound,
        advance,
        math.prod(model.values.shape),
        model.values.draw,
        keys,
        known,
        mask,
        blank=jnp.zeros((count, model.values.channels)) if model.values.channels else None,
    )
    return model.values.leave(values.reshape(count, *model.values.shape, *values.shape[2:]))


def measure(model: Autoregressive, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures `nll`, the exact negative log-likelihood of the grid given the condition, in nats per example.

    A joint network adds `caption_nll`, the negative log-likelihood of the caption, padding included.
    """
    values = model.values.enter(batch['x'])
    outputs, caption = predict(model, variables, values, conditions.of_batch(model.conditions, batch))
    found = {'nll': model.values.negative_log(values, outputs)}
    return found if caption is None else {**found, 'caption_nll': token_cross_entropy(caption, batch['caption'])}
