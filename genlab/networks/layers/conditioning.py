"""Embeds the conditions of a diffusion network other than its noise level: a class label and a time span."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn


def label_or_null(labels: jax.Array | None, level: jax.Array, classes: int) -> jax.Array:
    """Returns the class labels, or null labels if there are none.

    Args:
        labels: class labels, int [B], or None.
        level: noise levels [B], whose shape missing labels take.
        classes: number of classes, which is also the null label.

    Returns:
        Labels, int [B].
    """
    return jnp.full(level.shape, classes) if labels is None else labels


def span_or_zero(span: jax.Array | None, level: jax.Array) -> jax.Array:
    """Returns the spans [B], or zeros of the shape of `level` [B] if there are none."""
    return jnp.zeros_like(level) if span is None else span


def embed_label(
    labels: jax.Array | None,
    level: jax.Array,
    classes: int,
    width: int,
    *,
    name: str = 'label',
    embedding_init: Callable = nn.linear.default_embed_init,
) -> jax.Array:
    """Looks labels up in a table with one row per class and one for the null label, as part of the calling module.

    Args:
        labels: class labels, int [B], in 0 ... classes; None means the null label, `classes`.
        level: noise levels [B], whose shape missing labels take.
        classes: number of classes.
        width: size of an embedding.
        name: name of the table in the calling module.
        embedding_init: initializer of the table.

    Returns:
        Embeddings, float32 [B, width].
    """
    table = nn.Embed(classes + 1, width, embedding_init=embedding_init, name=name)
    return table(label_or_null(labels, level, classes))
