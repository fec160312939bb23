"""pix2pix (Isola et al. 2017): images from images, learned from pairs, with a discriminator of patches.

The input is a field of the batch, an image or a map of classes; `x` is the target. The dropout of the generator is its
only noise, also outside of training. For the arguments that all families share, see `genlab.models`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition
from genlab.config import counted, ramp
from genlab.errors import ConfigError, choose
from genlab.losses.adversarial import PAIRS, Pair
from genlab.losses.reconstruction import mean_absolute_error
from genlab.models import patches
from genlab.models.adversarial import STATES
from genlab.networks.layers.normalization import KINDS
from genlab.networks.translation.resnet import ResNet
from genlab.networks.translation.unet import UNet
from genlab.training.optimizers import adam
from genlab.training.state import Network


def settings(generator: ConfigDict, discriminator: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of an image-to-image model, with changes."""
    known = choices.filled(
        'config.model',
        dict(
            generator=generator,  # named: unet or resnet, see GENERATORS
            discriminator=discriminator,  # named: patch, see genlab.models.patches
            pair='non_saturating',  # losses of both players: genlab.losses.adversarial
            input='input',  # field of the batch that is translated
            map_classes='auto',  # values of an input that is a map of classes; 'auto': taken from the data
        ),
        changes,
    )
    return known | {'map_classes': counted(known['map_classes'])}


def decay(config: ConfigDict, steps: int) -> None:
    """Sets the length of a run, and the rate of both players: 2e-4 in its first half, then falling to 0."""
    config.train.steps = steps
    for player in ('discriminator', 'generator'):
        config.optimizer[player] = adam(ramp(2e-4, 0.0, begin=steps // 2), b1=0.5)


class Translator(NamedTuple):
    """Holds a generator, a discriminator, and the name of the input."""

    generator: nn.Module  # (images [B, H, W, I], train, keys=) -> images [B, H, W, C]
    discriminator: nn.Module  # input and image [B, H, W, I + C] -> logits of patches [B, h, w]
    pair: Pair
    input: str  # field of the batch
    map_classes: int = 0


def input_of(name: str, batch: Batch) -> jax.Array:
    """Returns the field that is translated.

    Raises:
        ConfigError: the batch has no such field, or it does not have the sides of the target.
    """
    if name not in batch:
        fields = ', '.join(sorted({*batch} - {'x', 'position'}))
        raise ConfigError(
            f'config.model.input={name!r}: the data have {fields}: choose one, or name it in config.data.fields'
        )
    field = batch[name]
    if field.ndim != 4 or field.shape[:3] != batch['x'].shape[:3]:
        raise ConfigError(
            f'config.model.input={name!r} has the shape {field.shape[1:]}, and the target {batch["x"].shape[1:]}: '
            'choose a field of images or of maps of classes'
        )
    return field


def channels(field: jax.Array, classes: int) -> jax.Array:
    """Returns an image [B, H, W, C] as it is, and a map of classes, int32 [B, H, W, 1], as one channel per class."""
    return jax.nn.one_hot(field[..., 0], classes) if jnp.issubdtype(field.dtype, jnp.integer) else field


def networks(model: Translator, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    given = channels(input_of(model.input, batch), model.map_classes)
    return {
        'generator': Network(model.generator, (given, False)),
        'discriminator': Network(model.discriminator, (jnp.concatenate([given, batch['x']], -1), False)),
    }


def generate(generator: nn.Module, own: Any, given: jax.Array, keys: jax.Array) -> tuple[jax.Array, dict]:
    """Translates images [B, H, W, I] in training mode. Returns images [B, H, W, C] and the new collections.

    Args:
        generator: the network.
        own: its variables.
        given: images, or channels of a map of classes.
        keys: keys of the noise, one per example [B].
    """
    return cast(tuple[jax.Array, dict], generator.apply(own, given, True, keys=keys, mutable=STATES))


def translate(generator: nn.Module, own: Any, given: jax.Array, keys: jax.Array) -> jax.Array:
    """Translates images outside of training, with running batch statistics; see `generate` for the arguments."""
    return cast(jax.Array, generator.apply(own, given, False, keys=keys))


def discriminator_terms(model: Translator, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the discriminator's terms: adversarial, and the diagnostic logit_gap = D(real) - D(fake)."""
    given = channels(batch[model.input], model.map_classes)
    fake, _ = generate(model.generator, variables['generator'], given, keys)
    real, fake = (jnp.concatenate([given, image], -1) for image in (batch['x'], fake))
    real_logits, fake_logits, stats = patches.compare(model.discriminator, variables['discriminator'], real, fake)
    return {
        'adversarial': patches.per_example(model.pair.discriminator, real_logits, fake_logits),
        'logit_gap': (real_logits - fake_logits).mean((1, 2)),
    }, {'discriminator': stats}


def generator_terms(model: Translator, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the generator's terms: adversarial, and l1, the mean absolute error of values in [-1, 1] (equation 3)."""
    given = channels(batch[model.input], model.map_classes)
    fake, stats = generate(model.generator, variables['generator'], given, keys)
    logits = lambda image: patches.judge(
        model.discriminator, variables['discriminator'], jnp.concatenate([given, image], -1)
    )[0]
    return {
        'adversarial': lambda: patches.per_example(model.pair.generator, logits(fake), logits(batch['x'])),
        'l1': mean_absolute_error(fake, batch['x']),
    }, {'generator': stats}


def sample(model: Translator, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Translates the input of each condition, with the noise of its key."""
    given = channels(condition[model.input], model.map_classes)
    return translate(model.generator, variables['generator'], given, keys)


def measure(model: Translator, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures l1: the mean absolute error of translations, of values in [-1, 1]."""
    return {'l1': mean_absolute_error(sample(model, variables, keys, batch), batch['x'])}


def from_config(config: ConfigDict, axis: str | None) -> Translator:
    """Makes the model of `config.model`, see `settings`."""
    model = config.model
    discriminator = choices.bind(patches.DISCRIMINATORS, model.discriminator, 'config.model.discriminator')
    return Translator(
        generator(config, axis),
        discriminator(config, axis),
        choose(PAIRS, model.pair, 'config.model.pair'),
        model.input,
        model.map_classes,
    )


def generator(config: ConfigDict, axis: str | None) -> nn.Module:
    """Makes the network of `config.model.generator`, from any input to images of the data."""
    return cast(nn.Module, choices.bind(GENERATORS, config.model.generator, 'config.model.generator')(config, axis))


def _unet(
    config: ConfigDict,
    axis: str | None,
    *,
    width: int,
    depth: int,
    dropout: float = 0.5,
    normalization: str = 'batch',
    skipped: int = 0,  # innermost decoder layers without dropout
) -> nn.Module:
    choose(KINDS, normalization, 'config.model.generator.normalization')
    dtype = jnp.dtype(config.model.dtype)
    return UNet(config.data.channels, width, depth, dropout, normalization, axis, dtype, skipped)


def _resnet(
    config: ConfigDict, axis: str | None, *, width: int, blocks: int, normalization: str = 'instance'
) -> nn.Module:
    choose(KINDS, normalization, 'config.model.generator.normalization')
    return ResNet(config.data.channels, width, blocks, normalization, axis, jnp.dtype(config.model.dtype))


# Name -> generator of a config for a mapped axis; the keyword arguments are the options.
GENERATORS: dict[str, Callable[..., nn.Module]] = {'unet': _unet, 'resnet': _resnet}
