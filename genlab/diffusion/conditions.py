"""Embeds conditions for a denoiser: raw labels and captions become keyword arguments of the network.

The network takes `labels` int32 [B], `context` [B, L + 1, D] and `context_mask` [B, L + 1]. `config.model` determines
which of them are present (genlab.diffusion.settings).
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import conditioning
from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition, Conditions
from genlab.diffusion.processes import like
from genlab.errors import ConfigError
from genlab.networks.encoders.text import TextEncoder
from genlab.noise import stream
from genlab.training.state import Network


def declared(settings: ConfigDict) -> Conditions:
    """Declares the conditions of a denoiser."""
    return Conditions(classes=settings.classes, words=settings.words)


def encoder(settings: ConfigDict) -> TextEncoder:
    """Makes the encoder of captions."""
    return TextEncoder(settings.words, **settings.text, dtype=jnp.dtype(settings.dtype))


def networks(settings: ConfigDict, batch: Batch) -> dict[str, Network]:
    """Returns the networks besides the denoiser: the encoder of captions, if the model is conditioned on captions."""
    if settings.words and 'caption' not in batch:
        raise ConfigError(
            "config.model.words: the data have no captions: set config.data.fields=('caption',) or config.model.words=0"
        )
    return {'text': Network(encoder(settings), (batch['caption'], False))} if settings.words else {}


def zeros(settings: ConfigDict, batch: Batch) -> Condition:
    """Makes an embedded condition of zeros for a batch, to initialise the denoiser."""
    count = batch['x'].shape[0]
    labels = {'labels': jnp.zeros(count, jnp.int32)} if settings.classes else {}
    if not settings.words:
        return labels
    shape = count, batch['caption'].shape[1] + 1
    return {**labels, 'context': jnp.zeros((*shape, settings.text.width)), 'context_mask': jnp.ones(shape, bool)}


def embed(settings: ConfigDict, variables: Variables, condition: Condition, train: bool = False) -> Condition:
    """Embeds a condition.

    Args:
        settings: `config.model`.
        variables: network -> {collection: values}.
        condition: raw condition: `label` int32 [B], `caption` int32 [B, L], each if the model has it.
        train: whether to run the encoder of captions in training mode.

    Returns:
        The embedded condition: keyword arguments of the network, leaves [B, ...].
    """
    labels = {'labels': condition['label']} if settings.classes else {}
    if not settings.words:
        return labels
    context, mask = encoder(settings).apply(variables['text'], condition['caption'], train)
    return {**labels, 'context': context, 'context_mask': mask}


def null(settings: ConfigDict, variables: Variables, count: int) -> Condition:
    """Embeds the null condition.

    Args:
        settings: `config.model`.
        variables: network -> {collection: values}.
        count: number of examples, N.

    Returns:
        The embedded condition, leaves [N, ...].
    """
    return embed(settings, variables, conditioning.null(declared(settings), count, length(settings, variables)))


def without(settings: ConfigDict, condition: Condition) -> Condition:
    """Replaces an embedded condition by the null condition.

    Args:
        settings: `config.model`.
        condition: embedded condition, leaves [B, ...].

    Returns:
        The null label, and a mask that keeps only the start token of each caption. Other leaves are unchanged.
    """
    none = dict(condition)
    if 'labels' in none:
        none['labels'] = jnp.full_like(none['labels'], settings.classes)
    if 'context_mask' in none:
        none['context_mask'] = jnp.zeros_like(none['context_mask']).at[:, 0].set(True)
    return none


def drop(settings: ConfigDict, condition: Condition, keys: jax.Array) -> Condition:
    """Replaces the condition of random examples by the null condition, so that the network learns both.

    Args:
        settings: `config.model`. The probability per example is its `drop_condition`.
        condition: embedded condition, leaves [B, ...].
        keys: one key per example [B].

    Returns:
        The new condition, leaves [B, ...].
    """
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, settings.drop_condition))(stream(keys, 'drop'))
    none = without(settings, condition)
    return {name: jnp.where(like(dropped, value), none[name], value) for name, value in condition.items()}


def length(settings: ConfigDict, variables: Variables) -> int:
    """Returns the number of tokens per caption, or 0 without captions."""
    return variables['text']['params']['positions'].shape[0] if settings.words else 0
