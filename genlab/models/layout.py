"""Images from layouts: LostGAN, version 1 (Sun and Wu 2019, "Image Synthesis From Reconfigurable Layout and Style").

The condition is a set of boxes with classes. The appearance of an object is not part of it: the object's latent
determines that.

For the arguments that all families share, see `genlab.models`.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition, Conditions, from_batch
from genlab.config import counted
from genlab.data.layouts import FIELDS
from genlab.errors import ConfigError, choose
from genlab.losses.adversarial import PAIRS, Pair
from genlab.models.adversarial import STATES
from genlab.networks.layout import discriminator, generator
from genlab.noise import normal
from genlab.training.state import Network


def settings(generator: ConfigDict, discriminator: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a layout GAN, with changes."""
    known = choices.filled(
        'config.model',
        dict(
            generator=generator,  # named: see GENERATORS
            discriminator=discriminator,  # named: see DISCRIMINATORS
            latent_size=128,  # size of the image's latent, and of each object's
            object_classes='auto',  # number of classes of objects, at least as many as the data have; 'auto': as many
            pair='hinge',  # losses of both players: genlab.losses.adversarial
        ),
        changes,
    )
    return known | {'object_classes': counted(known['object_classes'])}


class LayoutGAN(NamedTuple):
    """Holds the networks and the losses of a layout GAN."""

    generator: nn.Module  # (latents [N, D], train, objects=, boxes=, box_classes=) -> images [N, R, R, C]
    discriminator: nn.Module  # (images, train, boxes=, box_classes=) -> logits [N], and of the objects [N, M]
    pair: Pair
    latent_size: int
    conditions: Conditions = Conditions(fields=FIELDS)


def networks(model: LayoutGAN, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    layout = from_batch(model.conditions, batch)
    objects = jnp.zeros((*layout['box_classes'].shape, model.latent_size))
    return {
        'generator': Network(model.generator, (objects[:, 0], False), {'objects': objects, **layout}),
        'discriminator': Network(model.discriminator, (batch['x'], False), layout),
    }


def latents(model: LayoutGAN, keys: jax.Array, condition: Condition) -> dict[str, jax.Array]:
    """Draws the latents of images, z [N, D], and of their objects, objects [N, M, D]."""
    slots = condition['box_classes'].shape[1]
    return {
        'z': normal(keys, (model.latent_size,), 'latent'),
        'objects': normal(keys, (slots, model.latent_size), 'latents of objects'),
    }


def sample(model: LayoutGAN, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one image per key, with running statistics."""
    inputs: dict[str, Any] = {**latents(model, keys, condition), **condition}
    return cast(jax.Array, model.generator.apply(variables['generator'], train=False, **inputs))


# Training.


def generate(model: LayoutGAN, variables: Variables, keys: jax.Array, condition: Condition) -> tuple[jax.Array, dict]:
    """Generates images [B, R, R, C] by the statistics of the batch. Returns them and the new collections."""
    inputs: dict[str, Any] = {**latents(model, keys, condition), **condition}
    outputs = model.generator.apply(variables['generator'], train=True, **inputs, mutable=STATES)
    return cast(tuple[jax.Array, dict], outputs)


def discriminate(
    model: LayoutGAN, variables: Variables, images: jax.Array, condition: Condition
) -> tuple[jax.Array, jax.Array, dict]:
    """Returns the logits of images [B] and of objects [B, M], and the new collections, in training mode."""
    named: dict[str, Any] = dict(condition)
    outputs, stats = model.discriminator.apply(variables['discriminator'], images, True, **named, mutable=STATES)
    logits, objects = outputs
    return logits, objects, cast(dict, stats)


def over_objects(values: jax.Array, box_classes: jax.Array) -> jax.Array:
    """Averages values [B, M] over the objects that are present (-1: absent): [B]. It is 0 without objects."""
    present = box_classes >= 0
    return jnp.where(present, values, 0).sum(1) / jnp.maximum(present.sum(1), 1)


def discriminator_terms(model: LayoutGAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the discriminator's terms.

    image: the loss of real against generated images.
    object: the same of their objects, averaged over the objects of an image.
    logit_gap, object_gap: D(real) - D(fake) of both; diagnostics of weight 0.
    """
    condition = from_batch(model.conditions, batch)
    fakes, _ = generate(model, variables, keys, condition)
    real, real_objects, stats = discriminate(model, variables, batch['x'], condition)
    moved = {**variables, 'discriminator': {**variables['discriminator'], **stats}}
    fake, fake_objects, stats = discriminate(model, moved, fakes, condition)
    classes = condition['box_classes']
    losses = model.pair.discriminator(real_objects.ravel(), fake_objects.ravel()).reshape(classes.shape)
    return {
        'image': model.pair.discriminator(real, fake),
        'object': over_objects(losses, classes),
        'logit_gap': real - fake,
        'object_gap': over_objects(real_objects - fake_objects, classes),
    }, {'discriminator': stats}


def generator_terms(model: LayoutGAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the generator's terms: image, and object, averaged over the objects of an image."""
    condition = from_batch(model.conditions, batch)
    fakes, stats = generate(model, variables, keys, condition)
    fake, fake_objects, _ = discriminate(model, variables, fakes, condition)
    real, real_objects, _ = discriminate(model, variables, batch['x'], condition)
    losses = model.pair.generator(fake_objects.ravel(), real_objects.ravel()).reshape(fake_objects.shape)
    return {
        'image': model.pair.generator(fake, real),
        'object': over_objects(losses, condition['box_classes']),
    }, {'generator': stats}


def from_config(config: ConfigDict, axis: str | None) -> LayoutGAN:
    """Makes the layout GAN of `config.model`, see `settings`.

    Raises:
        ConfigError: there are no classes of objects, or the losses average over objects, absent ones among them.
    """
    if config.model.object_classes == 0:
        raise ConfigError(
            "config.model.object_classes=0: give a number of classes, or 'auto' for the number in the data"
        )
    pair = choose(PAIRS, config.model.pair, 'config.model.pair')
    if config.model.pair == 'relativistic_average':
        raise ConfigError(
            "config.model.pair='relativistic_average' averages over absent objects too: choose another pair"
        )
    return LayoutGAN(
        choices.bind(GENERATORS, config.model.generator, 'config.model.generator')(config, axis),
        choices.bind(DISCRIMINATORS, config.model.discriminator, 'config.model.discriminator')(config),
        pair,
        config.model.latent_size,
    )


def _isla(config: ConfigDict, axis: str | None, *, width: int, embedding: int, mask_width: int) -> nn.Module:
    return generator.Generator(
        config.data.resolution,
        config.model.object_classes,
        config.data.channels,
        width,
        embedding,
        mask_width,
        axis,
        jnp.dtype(config.model.dtype),
    )


def _roi(
    config: ConfigDict, *, width: int, halvings: tuple[bool, ...], taps: tuple[int, ...], total: bool = False
) -> nn.Module:
    if len(taps) not in (1, 2) or not all(0 <= tap < len(halvings) for tap in taps) or sorted({*taps}) != [*taps]:
        raise ConfigError(
            f'config.model.discriminator.taps={taps}: give one or two blocks, in ascending order, below {len(halvings)}'
        )
    dtype = jnp.dtype(config.model.dtype)
    return discriminator.Discriminator(config.model.object_classes, width, tuple(halvings), tuple(taps), total, dtype)


GENERATORS = {'isla': _isla}
DISCRIMINATORS = {'roi': _roi}
