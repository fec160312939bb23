"""Images from speech, without text (Li et al. 2020): an encoder of speech, and a stacked generator on its embedding.

There are four players. A teacher learns the classes of images. The speech encoder learns to embed the spoken word close
to the teacher's embedding of the image. Generator and discriminators see the embedding as a condition, without a
gradient to the encoder.

The losses come from Goodfellow et al. 2014. A pair of an image and the condition of another example counts as fake.

For the arguments that all families share, see `genlab.models`. A batch has `speech` [B, T, bands], `speech_length` [B]
and `label` [B] in addition to the images.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.abilities import Batch, Variables
from genlab.choices import filled
from genlab.conditioning import Condition, Conditions
from genlab.config import counted
from genlab.errors import ConfigError
from genlab.losses import alignment
from genlab.losses.adversarial import cross_entropy_discriminator, non_saturating_generator
from genlab.losses.divergences import standard_kl
from genlab.models.adversarial import STATES
from genlab.networks.adversarial.stacked import Discriminator, Generator, Pictures, first_side
from genlab.networks.encoders.image import ImageEncoder
from genlab.networks.encoders.speech import SpeechEncoder
from genlab.networks.layers.resampling import doublings, halve
from genlab.noise import normal
from genlab.training.state import Network

CONDITIONS = Conditions(fields=('speech', 'speech_length'))


def settings(**changes: Any) -> dict[str, Any]:
    """Returns `config.model` of images from speech, with changes."""
    known = filled(
        'config.model',
        dict(
            classes='auto',  # number of labels that the teacher learns; 'auto': taken from the data
            embedding_size=64,  # size of the embeddings of speech and images
            condition_size=32,  # size of the embedding after conditioning augmentation
            latent_size=64,  # size of z ~ N(0, 1)
            stages=2,  # images of the generator, the last one of config.data.resolution
            speech=dict(width=32, layers=2, window=5, features=64, dropout=0.0),  # networks.encoders.speech
            teacher=dict(width=16),  # networks.encoders.image
            generator=dict(width=16, blocks=1),  # networks.adversarial.stacked
            discriminator=dict(width=16),
            margin=1.0,  # by which the matching image must score higher than images of other classes
            temperature=2.0,  # that softens the teacher's features
        ),
        changes,
    )
    return known | {'classes': counted(known['classes'])}


class Spoken(NamedTuple):
    """Holds the networks of all players, and the settings of their losses."""

    speech: nn.Module  # (frames [B, T, bands], length [B], train, keys=) -> embeddings [B, E]
    teacher: nn.Module  # images -> (features [B, E], class logits)
    generator: nn.Module  # (latents, embeddings, noise, train) -> Pictures
    discriminators: tuple[nn.Module, ...]  # one per stage: (images, conditions [B, K, D], train) -> two kinds of logits
    sides: tuple[int, ...]  # sides of the images per stage
    latent_size: int
    condition_size: int
    embedding_size: int
    margin: float
    temperature: float
    axis: str | None = None


def from_config(config: ConfigDict, axis: str | None) -> Spoken:
    """Makes the model of `config.model`, see `settings`.

    Raises:
        ConfigError: the stages do not fit the resolution, or there are no classes for the teacher.
    """
    model, resolution, dtype = config.model, config.data.resolution, jnp.dtype(config.model.dtype)
    try:
        side = first_side(resolution, model.stages)
        doublings(side)
    except ValueError as error:
        raise ConfigError(f'config.model.stages={model.stages}, config.data.resolution={resolution}: {error}') from None
    if not model.classes:
        raise ConfigError('config.model.classes=0: the teacher learns classes: label the data')
    sides = tuple(side << stage for stage in range(model.stages))
    generator = Generator(
        resolution,
        model.stages,
        config.data.channels,
        condition_size=model.condition_size,
        axis=axis,
        dtype=dtype,
        **model.generator,
    )
    return Spoken(
        SpeechEncoder(model.embedding_size, dtype=dtype, **model.speech),
        ImageEncoder(model.embedding_size, model.classes, dtype=dtype, **model.teacher),
        generator,
        tuple(Discriminator(axis=axis, dtype=dtype, **model.discriminator) for _ in sides),
        sides,
        model.latent_size,
        model.condition_size,
        model.embedding_size,
        model.margin,
        model.temperature,
        axis,
    )


def discriminators(model: Spoken) -> tuple[str, ...]:
    """Returns the names of the discriminators."""
    return tuple(f'discriminator_{stage}' for stage in range(len(model.sides)))


def networks(model: Spoken, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    x = batch['x']
    z, embedding, condition = (
        jnp.zeros((x.shape[0], size)) for size in (model.latent_size, model.embedding_size, model.condition_size)
    )
    found = {
        'speech': Network(model.speech, (batch['speech'], batch['speech_length'], False)),
        'teacher': Network(model.teacher, (x, False)),
        'generator': Network(model.generator, (z, embedding, condition, False)),
    }
    for name, module, side in zip(discriminators(model), model.discriminators, model.sides):
        images = jnp.zeros((x.shape[0], side, side, x.shape[-1]))
        found[name] = Network(module, (images, condition[:, None], False))
    return found


# Speech.


def embed(model: Spoken, variables: Variables, condition: Condition) -> jax.Array:
    """Embeds speech, [N, E]."""
    heard = model.speech.apply(variables['speech'], condition['speech'], condition['speech_length'], False)
    return cast(jax.Array, heard)


def teacher_terms(model: Spoken, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the teacher's terms: classification (nats), and the diagnostic accuracy."""
    _, logits = _apply(model.teacher, variables['teacher'], batch['x'])[0]
    own = jnp.take_along_axis(jax.nn.log_softmax(logits), batch['label'][:, None], 1)[:, 0]
    return {'classification': -own, 'accuracy': (logits.argmax(1) == batch['label']).astype(jnp.float32)}, {}


def speech_terms(model: Spoken, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the speech encoder.

    triplet: images of other classes must score lower than the matching one, by the margin. A score is an inner product.
    triplet_same: other images of the class must not score higher than the matching one.
    distillation: KL divergence of the embedding from the teacher's softened features, as distributions.
    direction_error: absolute differences of embedding and features, both scaled to unit length.
    recall: a diagnostic, whether the image of the batch with the best score has the spoken class.

    The candidates of triplets are the images of all devices, separately per microbatch.
    """
    inputs = batch['speech'], batch['speech_length'], True, keys
    heard = cast(jax.Array, model.speech.apply(variables['speech'], *inputs))
    seen = jax.lax.stop_gradient(model.teacher.apply(variables['teacher'], batch['x'], False)[0])
    (candidates, labels), own = _gathered(model, (seen, batch['label']))
    scores = heard @ candidates.T
    same = batch['label'][:, None] == labels[None]
    return {
        'triplet': alignment.triplet(scores, own, ~same, margin=model.margin),
        'triplet_same': alignment.triplet(scores, own, same, margin=0.0),
        'distillation': alignment.distillation(heard, seen, temperature=model.temperature),
        'direction_error': alignment.direction_error(heard, seen),
        'recall': (labels[scores.argmax(1)] == batch['label']).astype(jnp.float32),
    }, {}


def _gathered(model: Spoken, local: Any) -> tuple[Any, jax.Array]:
    """Collects arrays [B, ...] from all devices. Returns them as [N, ...], and the places of this device's rows [B]."""
    count = len(jax.tree.leaves(local)[0])
    if model.axis is None:
        return local, jnp.arange(count)
    every = jax.lax.all_gather(local, model.axis, tiled=True)
    return every, jax.lax.axis_index(model.axis) * count + jnp.arange(count)


# Images.


def generate(model: Spoken, variables: Variables, keys: jax.Array, condition: Condition, train: bool):
    """Generates the images of all stages from speech: (Pictures, new collections of the generator)."""
    embedding = jax.lax.stop_gradient(embed(model, variables, condition))
    noise = normal(keys, (model.latent_size,), 'latent'), normal(keys, (model.condition_size,), 'condition')
    inputs = noise[0], embedding, noise[1], train
    if train:
        return _apply(model.generator, variables['generator'], *inputs[:-1])
    return cast(Pictures, model.generator.apply(variables['generator'], *inputs)), {}


def sample(model: Spoken, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one image of the last stage per key, conditioned on speech."""
    return generate(model, variables, keys, condition, False)[0].images[-1]


def discriminator_terms(model: Spoken, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the discriminators' terms, each a sum over stages.

    adversarial: the cross-entropy of real and generated images with their condition.
    mismatched: the cross-entropy of real images with the condition of an example of another class, as fakes.
    unconditional: the cross-entropy of real and generated images alone.
    logit_gap: a diagnostic, D(real) - D(fake) with their condition, the mean over stages.
    """
    fakes, _ = jax.lax.stop_gradient(generate(model, variables, keys, batch, True))
    other, exists = _mismatched(model, fakes.mean, batch['label'])
    both, new = jnp.stack([fakes.mean, other], 1), {}
    terms = dict.fromkeys(('adversarial', 'mismatched', 'unconditional', 'logit_gap'), jnp.zeros(len(other)))
    for name, module, fake, real in _stages(model, fakes, batch['x']):
        (real_logits, real_alone), stats = _apply(module, variables[name], real, both)
        moved = {**variables[name], **stats}
        (fake_logits, fake_alone), new[name] = _apply(module, moved, fake, fakes.mean[:, None])
        terms['adversarial'] += cross_entropy_discriminator(real_logits[:, 0], fake_logits[:, 0])
        terms['mismatched'] += jnp.where(exists, alignment.mismatch(real_logits[:, 1]), 0)
        terms['unconditional'] += cross_entropy_discriminator(real_alone, fake_alone)
        terms['logit_gap'] += (real_logits[:, 0] - fake_logits[:, 0]) / len(model.sides)
    return terms, new


def generator_terms(model: Spoken, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the generator's terms.

    adversarial, unconditional: sums over stages of its loss, with and without the condition.
    kl: KL divergence of the augmented condition from N(0, I), nats.
    """
    fakes, stats = generate(model, variables, keys, batch, True)
    terms = dict.fromkeys(('adversarial', 'unconditional'), jnp.zeros(len(batch['x'])))
    for name, module, fake, _ in _stages(model, fakes, batch['x']):
        (logits, alone), _ = _apply(module, variables[name], fake, fakes.mean[:, None])
        terms['adversarial'] += non_saturating_generator(logits[:, 0])
        terms['unconditional'] += non_saturating_generator(alone)
    return {**terms, 'kl': standard_kl(fakes.mean, fakes.log_variance).sum(1)}, {'generator': stats}


def _stages(model: Spoken, fakes: Pictures, x: jax.Array) -> list[tuple[str, nn.Module, jax.Array, jax.Array]]:
    """Returns per stage the discriminator's name and module, the generated images, and the real ones of that side."""
    real = [x]
    for _ in model.sides[1:]:
        real.insert(0, halve(real[0]))
    return [*zip(discriminators(model), model.discriminators, fakes.images, real)]


def _mismatched(model: Spoken, condition: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns for each example the condition of the next one of another class, and whether there is one.

    "Next" goes around the batch of all devices, separately per microbatch, so it does not depend on their number.

    Args:
        condition: [B, D].
        label: int [B].

    Returns:
        Conditions [B, D], and bool [B].
    """
    (conditions, labels), own = _gathered(model, (condition, label))
    count = len(labels)
    ahead = (jnp.arange(count)[None] - own[:, None]) % count
    distance = jnp.where(label[:, None] == labels[None], count, ahead)
    return conditions[distance.argmin(1)], distance.min(1) < count


def _apply(module: nn.Module, variables: Any, *inputs: Any) -> tuple[Any, dict]:
    """Calls a network in training mode. Returns its output and its new collections."""
    return cast(tuple[Any, dict], module.apply(variables, *inputs, True, mutable=STATES))
