"""What a denoiser is told of an example beside its noise: its class, and the words of its caption.

A condition is what the network is called with: `labels` [B], `context` [B, L, D] and `context_mask` [B, L]. All of it is of
`config.model` (genlab.diffusion.settings); a batch has `label` and `caption` where the source does."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab.diffusion.model import Condition
from genlab.errors import ConfigError
from genlab.networks.encoders.text import TextEncoder
from genlab.training.state import Network


def encoder(settings: ConfigDict) -> TextEncoder:
    return TextEncoder(settings.words, **settings.text, dtype=jnp.dtype(settings.dtype))


def networks(settings: ConfigDict, batch) -> dict[str, Network]:
    """What to initialise beside the denoiser: the encoder of captions, where there are words to be told."""
    if settings.words and 'caption' not in batch:
        raise ConfigError(
            "config.model.words: the data have no captions: set config.data.fields=('caption',), "
            'or config.model.words=0'
        )
    return {'text': Network(encoder(settings), (batch['caption'], False))} if settings.words else {}


def blank(settings: ConfigDict, batch) -> Condition:
    """Zeros like the condition of a batch, to initialise the denoiser with."""
    count = batch['x'].shape[0]
    labels = {'labels': jnp.zeros(count, jnp.int32)} if settings.classes else {}
    if not settings.words:
        return labels
    shape = count, batch['caption'].shape[1] + 1
    return {**labels, 'context': jnp.zeros((*shape, settings.text.width)), 'context_mask': jnp.ones(shape, bool)}


def told(settings: ConfigDict, variables, batch, train: bool = False) -> Condition:
    """The condition of a batch."""
    labels = {'labels': batch['label']} if settings.classes else {}
    return {**labels, **_words(settings, variables, batch['caption'], train)} if settings.words else labels


def untold(settings: ConfigDict, variables, count: int) -> Condition:
    """The condition of `count` examples of which nothing is known."""
    labels = {'labels': jnp.full(count, settings.classes)} if settings.classes else {}
    if not settings.words:
        return labels
    return {**labels, **_words(settings, variables, jnp.zeros((count, length(variables)), jnp.int32))}


def by_chance(settings: ConfigDict, variables, keys: jax.Array) -> Condition:
    """A class for each key [N], and no words."""
    labels = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 5), (), 0, settings.classes))
    nothing = untold(settings, variables, keys.shape[0])
    return {**nothing, 'labels': labels(keys)} if settings.classes else nothing


def length(variables) -> int:
    """The most words of a caption."""
    return variables['text']['params']['positions'].shape[0]


def _words(settings, variables, tokens, train=False) -> Condition:
    context, mask = encoder(settings).apply(variables['text'], tokens, train)
    return {'context': context, 'context_mask': mask}
