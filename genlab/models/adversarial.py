"""Generative adversarial networks (Goodfellow et al. 2014): a generator and a discriminator, any pair of losses.

For the arguments that all families share, see `genlab.models`. The networks come from `genlab.models.generators`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import augmentation, choices
from genlab.abilities import Batch, Variables
from genlab.augmentation import Augment, Controller
from genlab.conditioning import Condition, Conditions, from_batch, random
from genlab.config import counted
from genlab.losses import penalties
from genlab.losses.adversarial import Pair
from genlab.networks.adversarial.stylegan import truncate
from genlab.networks.layers.resampling import double, halve
from genlab.noise import normal, stream, uniform
from genlab.training.state import Network

STATES = flax.core.DenyList('params')  # the collections that a network may write


def settings(networks: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a GAN of images, with changes."""
    known = choices.filled(
        'config.model',
        dict(
            networks=networks,  # named: see genlab.models.generators
            latent_size=100,  # size of z ~ N(0, 1)
            dimensions=0,  # number of coordinates of a point, for dense networks; 0 for images
            classes=0,  # number of labels that both networks take; 'auto': taken from the data; 0: none
            pair='non_saturating',  # losses of both players: genlab.losses.adversarial
            augment=choices.named('none'),  # augmentation in front of the discriminator: genlab.augmentation
            mixing=0.0,  # probability that an image mixes two styles, with a mapping network
            path_decay=0.0,  # decay of the running mean of path lengths, per step that computes it; 0: no such term
            fade=(),  # (first step, steps) in which the highest level fades in, for networks that grow
        ),
        changes,
    )
    return known | {'classes': counted(known['classes'])}


class Networks(NamedTuple):
    """The networks of a GAN. All are called with (input, train), and with `label=` if there are classes.

    A label is given as weights of the classes, [B, classes]. Codes between two classes have fractions.
    """

    generator: nn.Module  # latents [N, D], or styles [N, layers, D] with a mapping -> examples
    discriminator: nn.Module  # examples -> logits [N], or (logits, class logits [N, classes])
    mapping: nn.Module | None = None  # latents -> w [N, D]; it tracks the mean of w, and takes the label
    layers: int = 0  # styles per image, with a mapping
    styles: int = 0  # size D of a style, with a mapping
    noisy: bool = False  # whether the generator takes `keys=`
    grows: bool = False  # whether generator and discriminator take `fade=`


class GAN(NamedTuple):
    """Holds the networks of a GAN, its losses, and what is done to codes and images on the way."""

    nets: Networks
    pair: Pair  # losses of discriminator and generator
    latent_size: int
    conditions: Conditions = Conditions()
    augment: Augment | None = None
    mixing: float = 0.0  # probability that an image mixes two styles
    path_decay: float = 0.0
    fade: tuple[int, ...] = ()  # (first step, steps)
    truncation: float = 1.0  # share of the distance of w from its mean, in samples
    axis: str | None = None


class PathMean(nn.Module):
    """Holds the running mean of path lengths in the collection `path_length`, equal on all devices.

    Gradients pass through the share of the present lengths, as in the code of Karras et al. 2020.
    """

    decay: float
    axis: str | None = None

    @nn.compact
    def __call__(self, lengths: jax.Array, train: bool) -> jax.Array:
        """Returns the mean after the update. lengths: [B]."""
        mean = self.variable('path_length', 'mean', jnp.zeros, (), jnp.float32)
        if train and not self.is_initializing():
            now = lengths.mean()
            now = now if self.axis is None else jax.lax.pmean(now, self.axis)
            moved = mean.value + self.decay * (now - mean.value)
            mean.value = jax.lax.stop_gradient(moved)
            return moved
        return mean.value


def networks(model: GAN, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    nets, count = model.nets, batch['x'].shape[0]
    z, label = jnp.zeros((count, model.latent_size)), _label(model, from_batch(model.conditions, batch))
    found = {'discriminator': Network(nets.discriminator, (batch['x'], False), label)}
    if nets.mapping is None:
        found['generator'] = Network(nets.generator, (z, False), label)
    else:
        found['mapping'] = Network(nets.mapping, (z, False), label)
        styles = jnp.zeros((count, nets.layers, nets.styles))
        found['generator'] = Network(nets.generator, (styles, False))
        if model.path_decay:
            found['path_length'] = Network(PathMean(model.path_decay, model.axis), (jnp.zeros(count), False))
    if model.augment is not None:
        found['augmentation'] = Network(_controller(model), (jnp.zeros(count), False))
    return found


def trained(model: GAN) -> tuple[str, ...]:
    """Returns the networks that the generator's player trains."""
    return ('generator',) if model.nets.mapping is None else ('mapping', 'generator')


def updated(model: GAN, player: str) -> tuple[str, ...]:
    """Returns the networks whose state collections a player writes."""
    if player == 'discriminator':
        return ('discriminator', 'augmentation') if model.augment is not None else ('discriminator',)
    return (*trained(model), 'path_length') if model.path_decay else trained(model)


# Codes. With a mapping network, a code is w [N, D]; without, z [N, latent_size], joined with the class weights.


def prior(model: GAN, variables: Variables, keys: jax.Array) -> jax.Array:
    """Draws codes [N, D], each of a random class."""
    return codes(model, variables, keys, random(model.conditions, keys))


def codes(model: GAN, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Draws codes [N, D] of a condition."""
    z, label = normal(keys, (model.latent_size,), 'latent'), _label(model, condition)
    if model.nets.mapping is None:
        return jnp.concatenate([z, *label.values()], -1)
    named: dict[str, Any] = label
    return cast(jax.Array, model.nets.mapping.apply(variables['mapping'], z, False, **named))


def decode(model: GAN, variables: Variables, codes: jax.Array) -> jax.Array:
    """Generates examples from codes [N, D], with constant noise and running statistics."""
    return _generated(model, variables, codes)


def mix(model: GAN, variables: Variables, coarse: jax.Array, fine: jax.Array) -> jax.Array:
    """Generates images with the first half of the styles from one code, and the second half from another."""
    first = jnp.arange(model.nets.layers) < (model.nets.layers + 1) // 2
    styles = jnp.where(first[None, :, None], coarse[:, None], fine[:, None])
    return cast(jax.Array, model.nets.generator.apply(variables['generator'], styles, False))


def truncate_codes(model: GAN, variables: Variables, codes: jax.Array, share: jax.Array) -> jax.Array:
    """Moves codes w [N, D] towards their mean, to `share` [N] of their distance."""
    return truncate(codes, variables['mapping']['batch_stats']['mean'][None], share[:, None])


def weight_directions(model: GAN, variables: Variables) -> jax.Array:
    """Returns the directions [D, D] of w that the style layers amplify most, the strongest first.

    They are the eigenvectors of A^T A, where A are the weights from w to all styles (Shen and Zhou 2021, equation 4).
    """
    kernels = [
        leaf / jnp.linalg.norm(leaf, axis=0, keepdims=True)
        for path, leaf in jax.tree.leaves_with_path(variables['generator']['params'])
        if 'style' in jax.tree_util.keystr(path) and path[-1].key == 'kernel'
    ]
    weights = jnp.concatenate(kernels, 1)
    return jnp.linalg.eigh(weights @ weights.T)[1].T[::-1]


def sample(model: GAN, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one example per key, with the truncation of the model."""
    w = codes(model, variables, keys, condition)
    if model.nets.mapping is not None:
        w = truncate_codes(model, variables, w, jnp.full(len(w), model.truncation))
    return _generated(model, variables, w, **({'keys': stream(keys, 'pixels')} if model.nets.noisy else {}))


def _generated(model: GAN, variables: Variables, codes: jax.Array, **named: Any) -> jax.Array:
    """Generates examples from codes [N, D] outside of training."""
    if model.nets.mapping is not None:
        codes = jnp.repeat(codes[:, None], model.nets.layers, 1)
    elif model.conditions.classes:
        codes, named['label'] = codes[:, : model.latent_size], codes[:, model.latent_size :]
    return cast(jax.Array, model.nets.generator.apply(variables['generator'], codes, False, **named))


# Training.


class Fakes(NamedTuple):
    """Holds generated examples, and the styles and collections of their generation."""

    images: jax.Array  # [B, ...]
    stats: dict  # new collections of the generator's networks
    styles: jax.Array | None  # [B, layers, D], with a mapping


def generate(model: GAN, variables: Variables, keys: jax.Array, condition: Condition, step: jax.Array) -> Fakes:
    """Generates fakes in training mode: with batch statistics, mixed styles, random noise, and the fade of the step."""
    z, label = normal(keys, (model.latent_size,), 'latent'), _label(model, condition)
    named: dict[str, Any] = {'keys': stream(keys, 'pixels')} if model.nets.noisy else {}
    named |= _fade(model, step)
    stats, styles = {}, None
    if model.nets.mapping is not None:
        w, stats['mapping'] = _apply(model.nets.mapping, variables['mapping'], z, **label)
        z = styles = jnp.repeat(w[:, None], model.nets.layers, 1)
        if model.mixing:
            another = normal(keys, (model.latent_size,), 'mixed latent')
            other, _ = _apply(model.nets.mapping, variables['mapping'], another, **label)
            z = styles = _mixed(model, styles, other, keys)
        label = {}
    images, stats['generator'] = _apply(model.nets.generator, variables['generator'], z, **label, **named)
    return Fakes(images, stats, styles)


def _mixed(model: GAN, styles: jax.Array, other: jax.Array, keys: jax.Array) -> jax.Array:
    """Replaces the styles [B, layers, D] after a random layer by another w [B, D], with the mixing probability."""
    layers = model.nets.layers
    cut = 1 + jnp.floor(uniform(keys, (), 'crossover') * (layers - 1))
    cut = jnp.where(uniform(keys, (), 'whether to mix') < model.mixing, cut, layers)
    return jnp.where(jnp.arange(layers)[None, :, None] < cut[:, None, None], styles, other[:, None])


def discriminate(model: GAN, variables: Variables, x: jax.Array, condition: Condition, step: jax.Array):
    """Returns (logits [B], class logits [B, classes] or None, new collections) of the discriminator in training mode.

    Call it once for real and once for fake examples, so that BatchNorm normalises them separately.
    """
    named = {**_label(model, condition), **_fade(model, step)}
    outputs, stats = _apply(model.nets.discriminator, variables['discriminator'], x, **named)
    logits, classes = outputs if isinstance(outputs, tuple) else (outputs, None)
    return logits.reshape(x.shape[0]), classes, stats


def discriminator_terms(model: GAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the discriminator's terms.

    adversarial, classification (with an auxiliary classifier), the penalties r1, r2, gradient_penalty and drift, and
    the diagnostics logit_gap = D(real) - D(fake), real_sign (the mean sign of the real logits) and augmentation (its
    probability).
    """
    condition = from_batch(model.conditions, batch)
    real = _faded(model, batch['x'], step)
    fakes = generate(model, variables, keys, condition, step)
    see = _augmented(model, variables, keys)
    seen_real, seen_fake = see(real, 'real'), see(fakes.images, 'fake')
    real_logits, classes, stats = discriminate(model, variables, seen_real, condition, step)
    moved = {**variables, 'discriminator': {**variables['discriminator'], **stats}}
    fake_logits, _, stats = discriminate(model, moved, seen_fake, condition, step)

    def logits(name: str) -> Callable[[jax.Array], jax.Array]:
        """Returns the critic of unaugmented images: the penalties see through the augmentation."""
        return lambda x: discriminate(model, variables, see(x, name), condition, step)[0]

    mixing = lambda: uniform(keys, (), 'mixing')
    terms = {
        'adversarial': model.pair.discriminator(real_logits, fake_logits),
        'r1': lambda: penalties.r1(logits('real'), real),
        'r2': lambda: penalties.r2(logits('fake'), fakes.images),
        'gradient_penalty': lambda: penalties.gradient_penalty(logits('real'), real, fakes.images, mixing()),
        'drift': penalties.drift(real_logits),
        'logit_gap': real_logits - fake_logits,
        'real_sign': jnp.sign(real_logits),
    }
    new = {'discriminator': stats}
    if classes is not None:
        terms['classification'] = _classification(classes, condition)
    if model.augment is not None:
        terms['augmentation'], new['augmentation'] = _apply(_controller(model), variables['augmentation'], real_logits)
    return terms, new


def generator_terms(model: GAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the generator's terms: adversarial, classification, and path_length if its mean is kept."""
    condition = from_batch(model.conditions, batch)
    fakes, see = generate(model, variables, keys, condition, step), _augmented(model, variables, keys)
    fake_logits, classes, _ = discriminate(model, variables, see(fakes.images, 'fake'), condition, step)
    real = see(_faded(model, batch['x'], step), 'real')
    real_logits, _, _ = discriminate(model, variables, real, condition, step)
    terms: dict[str, Any] = {'adversarial': model.pair.generator(fake_logits, real_logits)}
    if classes is not None:
        terms['classification'] = _classification(classes, condition)
    if model.path_decay:
        terms['path_length'] = lambda: _path_length(model, variables, fakes, keys, step)
    return terms, fakes.stats


def _path_length(model: GAN, variables: Variables, fakes: Fakes, keys: jax.Array, step: jax.Array):
    """Returns the squared deviation of path lengths from their mean, for every second example, and the new mean."""
    assert fakes.styles is not None
    keys = keys[::2]  # every second, so that the examples do not depend on the number of devices
    named: dict[str, Any] = {'keys': stream(keys, 'pixels')} if model.nets.noisy else {}
    named |= _fade(model, step)
    run = lambda styles: _apply(model.nets.generator, variables['generator'], styles, **named)[0]
    lengths = penalties.path_lengths(run, fakes.styles[::2], normal(keys, fakes.images.shape[1:], 'path'))
    mean, stats = _apply(PathMean(model.path_decay, model.axis), variables['path_length'], lengths)
    return jnp.square(lengths - mean), {'path_length': stats}


def _classification(logits: jax.Array, condition: Condition) -> jax.Array:
    """Returns the cross-entropy of the labels, nats [B]."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), condition['label'][:, None], 1)[:, 0]


def _controller(model: GAN) -> Controller:
    assert model.augment is not None
    return Controller(model.augment.probability, model.augment.target, model.augment.images, model.axis)


def _augmented(model: GAN, variables: Variables, keys: jax.Array) -> Callable[[jax.Array, str], jax.Array]:
    """Returns the augmentation in front of the discriminator: a function of images and the name of their use."""
    if model.augment is None:
        return lambda images, name: images
    augment, probability = model.augment, variables['augmentation']['augmentation']['probability']
    return lambda images, name: augmentation.apply(augment, images, keys, probability, f'augment {name}')


def _fade(model: GAN, step: jax.Array) -> dict[str, jax.Array]:
    """Returns the fade of the step as an argument of the networks, if they grow."""
    if not model.nets.grows:
        return {}
    if not model.fade:
        return {'fade': jnp.ones(())}
    begin, steps = model.fade
    return {'fade': jnp.clip((step - begin) / max(steps, 1), 0.0, 1.0)}


def _faded(model: GAN, images: jax.Array, step: jax.Array) -> jax.Array:
    """Blends real images with their version of half the side, while a level fades in (Karras et al. 2018, figure 2)."""
    if not model.fade:
        return images
    coarse = double(halve(images))
    return coarse + _fade(model, step)['fade'] * (images - coarse)


def _label(model: GAN, condition: Condition) -> dict[str, jax.Array]:
    """Returns the class weights [N, classes] as an argument of the networks, if there are classes."""
    if not model.conditions.classes:
        return {}
    return {'label': jax.nn.one_hot(condition['label'], model.conditions.classes)}


def _apply(module: nn.Module, variables: Any, x: jax.Array, **named: Any) -> tuple[Any, dict]:
    """Calls a network in training mode. Returns its output and its new collections."""
    return cast(tuple[Any, dict], module.apply(variables, x, True, **named, mutable=STATES))
