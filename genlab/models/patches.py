"""Discriminators of patches, as VQGAN, pix2pix and CycleGAN have them: logits [B, h, w] in place of [B]."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.errors import choose
from genlab.models.adversarial import STATES
from genlab.networks.adversarial.patch import PatchDiscriminator
from genlab.networks.layers.normalization import KINDS


def judge(discriminator: nn.Module, own: Any, images: jax.Array) -> tuple[jax.Array, dict]:
    """Runs a discriminator in training mode.

    Args:
        discriminator: the network.
        own: its variables.
        images: images [B, H, W, C].

    Returns:
        Logits of patches [B, h, w], and the new collections.
    """
    return cast(tuple[jax.Array, dict], discriminator.apply(own, images, True, mutable=STATES))


def compare(discriminator: nn.Module, own: Any, real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array, dict]:
    """Judges real images, then fake ones, so that batch normalisation treats them separately.

    Args:
        discriminator: the network.
        own: its variables.
        real: images [B, H, W, C].
        fake: images of the same shape.

    Returns:
        Logits of patches [B, h, w] of both, and the new collections.
    """
    real_logits, stats = judge(discriminator, own, real)
    fake_logits, stats = judge(discriminator, {**own, **stats}, fake)
    return real_logits, fake_logits, stats


def per_example(loss: Callable, *logits: jax.Array) -> jax.Array:
    """Averages an adversarial loss over the patches of each example: logits [B, h, w] each -> [B]."""
    return cast(jax.Array, loss(*(array.ravel() for array in logits)).reshape(len(logits[0]), -1).mean(1))


def _patch(
    config: ConfigDict, axis: str | None, *, width: int, layers: int = 3, normalization: str = 'batch'
) -> nn.Module:
    choose(KINDS, normalization, 'config.model.discriminator.normalization')
    return PatchDiscriminator(width, layers, normalization, axis, jnp.dtype(config.model.dtype))


# Name -> discriminator of a config for a mapped axis; the keyword arguments are the options.
DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {'patch': _patch}
