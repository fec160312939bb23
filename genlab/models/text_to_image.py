"""Adversarial networks of images from text, at several scales (GigaGAN, Kang et al. 2023).

There are three players: a discriminator, a generator with its mapping and its encoder of captions, and a matcher. The
matcher learns from real pairs whether an image and a caption belong together. With `input`, the generator is an
upsampler of that image.

For the arguments that all families share, see `genlab.models`. Terms that compare examples take the
global batch: they do not depend on the number of devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.choices import named
from genlab.conditioning import Condition, Conditions, from_batch
from genlab.config import counted
from genlab.errors import choose
from genlab.losses import penalties
from genlab.losses.adversarial import cross_entropy_discriminator, non_saturating_generator
from genlab.losses.contrastive import identification
from genlab.losses.denoising import mean_squared_error
from genlab.losses.reconstruction import mean_absolute_error
from genlab.models.adversarial import STATES
from genlab.networks.adversarial import gigagan
from genlab.networks.adversarial.gigagan import Images, pyramid
from genlab.networks.adversarial.stylegan import Mapping, truncate
from genlab.networks.encoders.image_text import ImageText
from genlab.networks.encoders.text import TextEncoder, summary
from genlab.networks.layers.resampling import doublings, halve
from genlab.noise import normal, uniform
from genlab.training.state import Network

GENERATOR = ('text', 'mapping', 'generator')  # networks that the generator's player trains
Predictions = tuple[tuple[jax.Array, ...], ...]  # scale -> depth -> logits [B, K, places]


def settings(generator: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model`, with changes.

    Args:
        generator: named('gigagan', ...) or named('upsampler', ...); see GENERATORS.
        **changes: other values.
    """
    known = choices.filled(
        'config.model',
        dict(
            generator=generator,
            discriminator=dict(
                base=512,  # channels of a feature map, times its side
                most=128,  # channels
                blocks=(1, 1, 1, 1, 1),  # convolutions per side 4, 8, 16, ..., the last of which halves it
                attentions=(0, 1, 0, 0, 0),  # blocks of attention per side
                gain=0.4,  # gain of residual convolutions
                attention_gain=0.3,
                head_width=32,  # channels per head of attention
                layers=1,  # number of layers of each predictor
                group=4,  # examples per group of the minibatch standard deviation
            ),
            text=dict(width=64, blocks=1, heads=4),  # encoders of captions, one per player
            mapping=dict(width=128, layers=2),  # the style w has this width
            matcher=named('image_text', base=512, most=128),  # or named('none')
            latent_size=64,  # size of z ~ N(0, 1)
            words=0,  # size of the vocabulary of captions, or 'auto'
            mismatch='caption',  # captions that do not fit their images: see MISMATCHES
            intermediate=0.1,  # weight of predictions at intermediate depths; the last one has 1
            input='',  # field of the images that an upsampler makes larger
            factor=2,  # scale factor of the upsampler
        ),
        changes,
    )
    return known | {'words': counted(known['words'])}


class Networks(NamedTuple):
    """The networks. `matcher` is None where images and captions are not matched."""

    text: TextEncoder
    mapping: Mapping
    generator: nn.Module
    discriminator: gigagan.Discriminator
    matcher: ImageText | None = None


class TextToImage(NamedTuple):
    """Holds the networks, what samples depend on, and the scales."""

    nets: Networks
    conditions: Conditions
    latent_size: int
    scales: int  # number of images that the discriminator sees
    intermediate: float = 0.1
    input: str = ''  # field of small images, for an upsampler
    factor: int = 2  # scale factor of the upsampler
    truncation: float = 1.0  # share of the distance of w from its mean, in samples
    mismatch: Callable = lambda captions, others, keys: others  # entry of MISMATCHES
    axis: str | None = None


def from_config(config: ConfigDict, axis: str | None) -> TextToImage:
    """Returns the model of `config.model`; see `settings`."""
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    generator, scales = choices.bind(GENERATORS, model.generator, 'config.model.generator')(config)
    text = {f'text_{name}': value for name, value in model.text.items()}
    discriminator = gigagan.Discriminator(
        config.data.resolution, model.words, **model.discriminator, **text, dtype=dtype
    )
    matcher = choices.bind(MATCHERS, model.matcher, 'config.model.matcher')(config)
    nets = Networks(
        TextEncoder(model.words, **model.text, dtype=dtype), Mapping(**model.mapping), generator, discriminator, matcher
    )
    return TextToImage(
        nets,
        Conditions(words=model.words, fields=(model.input,) if model.input else ()),
        model.latent_size,
        scales,
        model.intermediate,
        model.input,
        model.factor,
        config.sample.truncation,
        choose(MISMATCHES, model.mismatch, 'config.model.mismatch'),
        axis,
    )


def _gigagan(
    config: ConfigDict,
    *,
    base: int,
    most: int,
    blocks: tuple[int, ...],  # convolutions per side 4, 8, 16, ...
    kernels: tuple[int, ...],  # in their banks, per side
    attentions: tuple[int, ...],  # blocks of attention per side
    gain: float = 0.4,
    attention_gain: float = 0.3,
    head_width: int = 64,
) -> tuple[nn.Module, int]:
    sizes = base, most, blocks, kernels, attentions, gain, attention_gain, head_width, jnp.dtype(config.model.dtype)
    made = gigagan.Generator(config.data.resolution, config.data.channels, *sizes)
    return made, doublings(config.data.resolution) + 1


def _upsampler(
    config: ConfigDict,
    *,
    base: int,
    most: int,
    blocks: tuple[int, ...],
    kernels: tuple[int, ...],
    attentions: tuple[int, ...],
    gain: float = 0.4,
    attention_gain: float = 0.3,
    head_width: int = 64,
    bottom: int = 8,  # smallest side
) -> tuple[nn.Module, int]:
    sizes = base, most, blocks, kernels, attentions, gain, attention_gain, head_width, jnp.dtype(config.model.dtype)
    made = gigagan.Upsampler(config.data.resolution, config.data.channels, *sizes, bottom)
    return made, config.model.factor.bit_length() - 1


# Name -> (config, options) -> the network, and the number of scales of its images.
GENERATORS: dict[str, Callable[..., tuple[nn.Module, int]]] = {'gigagan': _gigagan, 'upsampler': _upsampler}


def _image_text(config: ConfigDict, *, base: int, most: int, features: int = 64) -> ImageText:
    text = config.model.text
    return ImageText(
        config.model.words, features, base, most, text.width, text.blocks, text.heads, jnp.dtype(config.model.dtype)
    )


MATCHERS: dict[str, Callable[..., ImageText | None]] = {'none': lambda config: None, 'image_text': _image_text}


def replace_word(captions: jax.Array, others: jax.Array, keys: jax.Array) -> jax.Array:
    """Replaces one word of each caption [B, L] by the other's, at a random place where they differ: [B, L].

    Two captions nearly always differ in the feature that is easiest to see. With a single different word, the
    discriminator has to use each kind of word (compare Yuksekgonul et al. 2023, section 4).
    """
    chances = jnp.where(captions != others, uniform(keys, captions.shape[1:], 'mismatch'), -1)
    return jnp.where(jax.nn.one_hot(chances.argmax(1), captions.shape[1], dtype=bool), others, captions)


# Name -> (captions, those of the next examples, keys) -> captions that do not fit, all [B, L].
MISMATCHES: dict[str, Callable[..., jax.Array]] = {
    'caption': lambda captions, others, keys: others,
    'word': replace_word,
}


def networks(model: TextToImage, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    nets, caption, images = model.nets, batch['caption'], batch['x']
    count, length = caption.shape
    text = jnp.zeros((count, length + 1, nets.text.width)), jnp.ones((count, length + 1), bool)
    small = {'small': _small(model, from_batch(model.conditions, batch))} if model.input else {}
    w = jnp.zeros((count, nets.mapping.width))
    found = {
        'text': Network(nets.text, (caption, False)),
        'mapping': Network(nets.mapping, (jnp.zeros((count, model.latent_size)), False), {'label': text[0][:, 0]}),
        'generator': Network(nets.generator, (w, False, *text), small),
        'discriminator': Network(nets.discriminator, (pyramid(images, model.scales), False, caption[:, None])),
    }
    if nets.matcher is not None:
        found['matcher'] = Network(nets.matcher, (images, caption, False))
    return found


def sample(model: TextToImage, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one image per key, with the truncation of the model."""
    w, text, _ = _styles(model, variables, keys, condition, train=False)
    w = truncate(w, variables['mapping']['batch_stats']['mean'][None], model.truncation)
    return _images(model, variables, w, text, condition, train=False)[0]


def _styles(
    model: TextToImage, variables: Variables, keys: jax.Array, condition: Condition, train: bool
) -> tuple[jax.Array, dict[str, jax.Array], dict]:
    """Returns styles w [N, D], the encoded captions as arguments of the generator, and the new collections."""
    nets, z = model.nets, normal(keys, (model.latent_size,), 'latent')
    (context, mask), _ = _apply(nets.text, variables['text'], condition['caption'], train=train)
    w, stats = _apply(nets.mapping, variables['mapping'], z, label=summary(context, mask), train=train)
    return w, {'context': context, 'mask': mask}, {'mapping': stats}


def _images(
    model: TextToImage, variables: Variables, w: jax.Array, text: dict, condition: Condition, train: bool
) -> Images:
    """Generates images of several scales. See `_styles` for w [N, D] and the text."""
    small = {'small': _small(model, condition)} if model.input else {}
    images, _ = _apply(model.nets.generator, variables['generator'], w, train=train, **text, **small)
    return cast(Images, images)


# Training.


def generate(model: TextToImage, variables: Variables, keys: jax.Array, condition: Condition) -> tuple[Images, dict]:
    """Generates images of several scales in training mode. Returns them and the new collections."""
    w, text, stats = _styles(model, variables, keys, condition, train=True)
    return _images(model, variables, w, text, condition, train=True), stats


def discriminate(
    model: TextToImage, variables: Variables, images: Images, captions: jax.Array, sets: int = 1
) -> Predictions:
    """Returns the predictions of the discriminator for images of several scales and K captions each, [B, K, L].

    sets: number of batches in B, whose examples do not see each other.
    """
    own = variables['discriminator']
    return cast(Predictions, _apply(model.nets.discriminator, own, images, captions=captions, sets=sets)[0])


def discriminator_terms(model: TextToImage, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the discriminator's terms.

    adversarial: loss of images with their captions, over all scales and depths (equation 6).
    matching: real and generated images with a caption that does not fit count as generated (equation 8): the caption
        of the next example, or of its words. Where both captions are equal it is 0.
    r1: the gradient penalty on real images, through all scales.
    logit_gap: D(real) - D(fake), a diagnostic.
    """
    del step
    condition, count = from_batch(model.conditions, batch), batch['x'].shape[0]
    own = condition['caption']
    other = model.mismatch(own, following(own, model.axis), keys)
    fakes, _ = generate(model, variables, keys, condition)
    real = pyramid(batch['x'], model.scales)
    captions = jnp.stack([own, other], 1)
    both = tuple(jnp.concatenate(pair) for pair in zip(real, fakes))  # both pass a layer as one batch
    logits = discriminate(model, variables, both, jnp.concatenate([captions, captions]), sets=2)
    weigh = lambda function, *chosen: weighted(function, model.intermediate, *chosen)
    real_own, fake_own, real_other, fake_other = (
        jax.tree.map(lambda part: part[rows, number], logits)
        for number in (0, 1)
        for rows in (slice(count), slice(count, None))
    )

    def logit(images: jax.Array) -> jax.Array:
        predictions = discriminate(model, variables, pyramid(images, model.scales), own[:, None])
        return weigh(lambda logits: logits, jax.tree.map(lambda part: part[:, 0], predictions))

    differ = (own != other).any(1).astype(jnp.float32)
    terms = {
        'adversarial': weigh(cross_entropy_discriminator, real_own, fake_own),
        'matching': differ * weigh(_both_generated, real_other, fake_other),
        'r1': lambda: penalties.r1(logit, batch['x']),
        'logit_gap': weigh(lambda real, fake: real - fake, real_own, fake_own),
    }
    return terms, {}


def generator_terms(model: TextToImage, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the generator's terms.

    adversarial: loss of images with their captions, over all scales and depths.
    contrastive: how badly the matcher finds the caption of an image among all of the batch (equation 9).
    absolute_error, squared_error: of an upsampler, mean distances to the true image per value.
    """
    del step
    condition = from_batch(model.conditions, batch)
    fakes, stats = generate(model, variables, keys, condition)
    logits = discriminate(model, variables, fakes, condition['caption'][:, None])
    own = jax.tree.map(lambda part: part[:, 0], logits)
    terms: dict[str, Any] = {'adversarial': weighted(non_saturating_generator, model.intermediate, own)}
    if model.nets.matcher is not None:
        terms['contrastive'] = lambda: _matched(model, variables, fakes[0], condition['caption'])[0]
    if model.input:
        terms['absolute_error'] = mean_absolute_error(fakes[0], batch['x'])
        terms['squared_error'] = mean_squared_error(fakes[0], batch['x'])
    return terms, stats


def matcher_terms(model: TextToImage, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the matcher's terms, of real images with their captions.

    contrastive: the mean of finding the caption, and of finding the image, among all of the batch.
    """
    del keys, step
    caption, image = _matched(model, variables, batch['x'], batch['caption'])
    return {'contrastive': (caption + image) / 2}, {}


def weighted(function: Callable[..., jax.Array], intermediate: float, *predictions: Any) -> jax.Array:
    """Averages a function of logits over places, and sums it over depths and scales: [B].

    The largest scale counts twice. The weights of the scales sum to 1.

    Args:
        function: logits [N], of each of the predictions -> [N].
        intermediate: weight of all depths but the last, whose weight is 1.
        *predictions: scale -> depth -> logits [B, places].
    """
    total: Any = 0.0
    for scale, depths in enumerate(zip(*predictions)):
        share = (2.0 if scale == 0 else 1.0) / (len(predictions[0]) + 1)
        for depth, logits in enumerate(zip(*depths)):
            weight = share * (1.0 if depth == len(depths[0]) - 1 else intermediate)
            values = function(*(part.reshape(-1) for part in logits))
            total += weight * values.reshape(logits[0].shape).mean(1)
    return cast(jax.Array, total)


def following(rows: jax.Array, axis: str | None) -> jax.Array:
    """Returns for each example the row of the next one in the global batch: [B, ...]. The last takes the first.

    axis: the name of the device axis, along which devices hold consecutive parts of the batch; None for one part.
    """
    after = rows[:1]
    if axis is not None:
        devices = jax.lax.axis_size(axis)
        after = jax.lax.ppermute(after, axis, [((device + 1) % devices, device) for device in range(devices)])
    return jnp.concatenate([rows[1:], after])


def _matched(
    model: TextToImage, variables: Variables, images: jax.Array, captions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns how badly the matcher finds the caption of each image, and the image of each caption, nats [B] each.

    All images and captions of the global batch are candidates.
    """
    (image, text, scale), _ = _apply(model.nets.matcher, variables['matcher'], images, tokens=captions)
    first: Any = 0
    every = image, text
    if model.axis is not None:
        every = jax.lax.all_gather(every, model.axis, tiled=True)
        first = jax.lax.axis_index(model.axis) * image.shape[0]
    positions = first + jnp.arange(image.shape[0])
    return identification(image, every[1], positions, scale), identification(text, every[0], positions, scale)


def _both_generated(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Computes the cross-entropy of judging both logits [N] as generated, nats [N]."""
    return jax.nn.softplus(real) + jax.nn.softplus(fake)


def _small(model: TextToImage, condition: Condition) -> jax.Array:
    """Returns the small images of an upsampler.

    Images of the full side are made smaller first: those of a batch are the true ones. Smaller images are taken as they
    are, such as samples of a generator.
    """
    images, resolution = condition[model.input], model.nets.discriminator.resolution
    if images.shape[1] < resolution:
        return images
    for _ in range(model.factor.bit_length() - 1):
        images = halve(images)
    return images


def _apply(module: Any, variables: Any, x: Any, train: bool = True, **named: Any) -> tuple[Any, dict]:
    """Calls a network. Returns its output and its new collections."""
    return cast(tuple[Any, dict], module.apply(variables, x, train=train, **named, mutable=STATES))
