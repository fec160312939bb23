"""Variational autoencoders (Kingma and Welling 2014; Rezende et al. 2014): one player that trains an encoder and a decoder.

Terms of `vae`, nats an example: reconstruction (minus the log-likelihood), kl, free_bits_kl (needs config.model.free_bits,
nats a latent), importance_weighted (minus the bound of config.model.importance samples), and the parts of the KL divergence:
mutual_information, total_correlation, dimension_kl (need config.model.examples, the size of the training set). The negative
ELBO is reconstruction + kl. The parts and free_bits_kl look at the whole batch over all devices; of microbatches, at each.

`measure` gives `nll_bound` only where the likelihood is one of the data as they are: Bernoulli of binarised images, discretised
logistic of 8-bit levels, Gaussian of dequantised images (a bound of the levels' probability) or of points. Otherwise, as with
Bernoulli of greys, which is a cross-entropy, the same number is called `negative_elbo` and there is no log_weight."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.diffusion.samplers import gaussian
from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose, shape
from genlab.losses import divergences
from genlab.losses.likelihoods import LIKELIHOODS
from genlab.losses.reconstruction import squared_error
from genlab.networks.autoencoders import spatial, variational
from genlab.training.state import Network

DECOMPOSITION = ('mutual_information', 'total_correlation', 'dimension_kl')
NEEDS = {'free_bits_kl': 'free_bits', 'importance_weighted': 'importance', **dict.fromkeys(DECOMPOSITION, 'examples')}


class Inference(NamedTuple):
    """One draw of the latents and what the decoder makes of it."""

    location: jax.Array  # [B, ...], of x
    log_scale: jax.Array  # broadcasts to it
    z: jax.Array  # [B, D], as all that follow
    posterior: tuple[jax.Array, jax.Array]  # mean and log-variance
    prior: tuple[jax.Array, jax.Array]


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: networks ('dense', 'convolutional', 'spatial' or 'ladder') and their sizes, latent_size (a ladder: of
    each level; spatial: at each place of the grid), likelihood, its scale (0: learned), classes to be told (0: none),
    dimensions of a point (0: images).

    Codes are the standardised latents of all levels [B, D], N(0, 1) a priori, then the one-hot class if classes are told."""
    start, objectives, abilities = parts(config, axis)
    return compose(config, axis, start, objectives, **abilities)


def parts(config: ConfigDict, axis: str | None = None) -> tuple[Callable, dict, dict]:
    """(batch -> networks, objectives, abilities) for `compose`, alone or among those of a larger experiment."""
    check(config)
    model, ladder, likelihood = config.model, config.model.networks == 'ladder', LIKELIHOODS[config.model.likelihood]
    encoder, decoder = networks(config)
    size = latents(config)
    to_levels = math.log(128) * math.prod(shape(config)) if config.data.dequantise else 0.0  # of a density over [-1, 1)

    def noise(keys, number=0):
        """What sample `number` of each example is made of, [B, size]."""
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), (size,)))(keys)

    def classes(batch):
        x = batch['x']
        return jax.nn.one_hot(batch['label'], model.classes) if model.classes else jnp.zeros((x.shape[0], 0))

    def rise(variables, batch):
        """What the encoder says: mean and log-variance."""
        return encoder.apply(variables['encoder'], batch['x'], classes(batch), True)

    def draw(variables, batch, upward, epsilon) -> Inference:
        """The latents that epsilon [B, size] makes of what the encoder says, and what the decoder makes of them."""
        if ladder:
            location, log_scale, latents = decoder.apply(variables['decoder'], epsilon, classes(batch), True, upward)
            return Inference(location, log_scale, *latents)
        z = upward[0] + jnp.exp(upward[1] / 2) * epsilon
        location, log_scale = decoder.apply(variables['decoder'], z, classes(batch), True)
        return Inference(location, log_scale, z, upward, (jnp.zeros_like(z), jnp.zeros_like(z)))

    def negative_log_likelihood(drawn, x):
        return likelihood.negative_log(x, drawn.location, drawn.log_scale) + to_levels

    def weigh(drawn, x):
        """log p(x, z) - log q(z | x), nats [B]."""
        ratio = divergences.log_normal(drawn.z, *drawn.prior) - divergences.log_normal(drawn.z, *drawn.posterior)
        return ratio.sum(1) - negative_log_likelihood(drawn, x)

    def objective(variables, batch, keys, step):
        upward = rise(variables, batch)
        drawn = draw(variables, batch, upward, noise(keys))
        kl = divergences.gaussian_kl(*drawn.posterior, *drawn.prior)

        def importance_weighted():
            @jax.checkpoint  # so that memory does not grow with the samples
            def one(number):
                return weigh(draw(variables, batch, upward, noise(keys, number)), batch['x'])

            return -divergences.importance_bound(jax.lax.map(one, jnp.arange(model.importance)))

        @functools.cache
        def parts():
            everyone = jax.tree.map(
                lambda leaf: leaf if axis is None else jax.lax.all_gather(leaf, axis, tiled=True), upward
            )
            return divergences.decompose_kl(drawn.z, *upward, *everyone, examples=model.examples)

        terms = {
            'reconstruction': negative_log_likelihood(drawn, batch['x']),
            'kl': kl.sum(1),
            'free_bits_kl': lambda: divergences.free_bits(kl, nats=model.free_bits, axis=axis),
            'importance_weighted': importance_weighted,
        }
        if not ladder:  # whose posterior of one level depends on the latents above
            terms.update({name: lambda i=i: parts()[i] for i, name in enumerate(DECOMPOSITION)})
        return terms, {}

    def prior(variables, keys):
        codes = jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)
        if not model.classes:
            return codes
        labels = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, model.classes))(keys)
        return variational.join(codes, jax.nn.one_hot(labels, model.classes))

    def generate(variables, codes):
        """(location, log-scale) of codes."""
        return decoder.apply(variables['decoder'], codes[:, :size], codes[:, size:], False)[:2]

    def decode(variables, codes):
        return likelihood.mean(generate(variables, codes)[0])

    def sample(variables, keys, condition):
        """Images as their mean, points with the likelihood's noise; classes as in the condition's examples, or by chance."""
        codes = prior(variables, keys)
        if model.classes and condition is not None:
            codes = variational.join(codes[:, :size], classes(condition))
        location, log_scale = generate(variables, codes)
        if not model.dimensions:
            return likelihood.mean(location)
        deviation = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 2), location.shape[1:]))(keys)
        return location + jnp.exp(log_scale) * deviation

    def encode(variables, batch):
        """The codes of the posterior's mean, of a ladder at every level given the means above."""
        upward = rise(variables, batch)
        drawn = draw(variables, batch, upward, jnp.zeros((batch['x'].shape[0], size)))
        return variational.join((drawn.z - drawn.prior[0]) * jnp.exp(-drawn.prior[1] / 2), classes(batch))

    def measure(variables, batch, keys):
        drawn = draw(variables, batch, rise(variables, batch), noise(keys))
        kl = divergences.gaussian_kl(*drawn.posterior, *drawn.prior).sum(1)
        bound = negative_log_likelihood(drawn, batch['x']) + kl
        error = squared_error(decode(variables, encode(variables, batch)), batch['x'])
        error = error if model.dimensions else error / 4  # of images in [0, 1]
        return {'nll_bound' if is_likelihood(config) else 'negative_elbo': bound, 'kl': kl, 'squared_error': error}

    def log_weight(variables, batch, keys):
        return weigh(draw(variables, batch, rise(variables, batch), noise(keys)), batch['x'])

    def reconstruct(variables, batch, keys):
        return {'input': batch['x'], 'output': decode(variables, encode(variables, batch))}

    def start(batch):
        z = jnp.zeros((batch['x'].shape[0], size))
        upward = ((z, z),) if ladder else ()
        return {
            'encoder': Network(encoder, (batch['x'], classes(batch), False)),
            'decoder': Network(decoder, (z, classes(batch), False, *upward)),
        }

    return (
        start,
        {'vae': (('encoder', 'decoder'), objective)},
        dict(
            sample=sample,
            measure=measure,
            encode=encode,
            decode=decode,
            prior=prior,
            reconstruct=reconstruct,
            log_weight=log_weight if is_likelihood(config) else None,
        ),
    )


def continuous(config: ConfigDict) -> tuple[tuple[int, int, int], Callable, Callable]:
    """(their shape [h, w, D], encode, decode) of codes on a grid: of a diffusion over them this is the first stage.

    encode: (variables, batch, keys [B] or None) -> a draw of the codes or, without keys, their mean, [B, h, w, D]; decode:
    (variables, codes [B, h, w, D]) -> images."""
    encoder, _ = networks(config)
    model, flat = config.model, parts(config)[2]['decode']
    grid = spatial.grid(shape(config), tuple(model.multipliers), model.latent_size)

    def encode(variables, batch, keys):
        mean, log_variance = encoder.apply(variables['encoder'], batch['x'], jnp.zeros((len(batch['x']), 0)), False)
        codes = mean if keys is None else mean + jnp.exp(log_variance / 2) * gaussian(keys, mean.shape[1:], 6)
        return codes.reshape(-1, *grid)

    return grid, encode, lambda variables, codes: flat(variables, codes.reshape(len(codes), -1))


def check(config: ConfigDict) -> None:
    """Raises where a loss or a likelihood lacks what it needs."""
    for term, key in NEEDS.items():
        if term in config.losses.get('vae', {}) and key not in config.model:
            raise ConfigError(f'config.losses.vae.{term} needs config.model.{key}: set it in the config')
    if config.model.likelihood not in LIKELIHOODS:
        raise ConfigError(
            f'config.model.likelihood={config.model.likelihood!r}: choose one of {", ".join(LIKELIHOODS)}'
        )
    if config.model.dimensions and config.model.likelihood != 'gaussian':
        raise ConfigError(f"config.model.likelihood={config.model.likelihood!r} is for images: points need 'gaussian'")
    if config.model.networks == 'spatial' and (config.model.classes or config.model.dimensions):
        raise ConfigError(
            "config.model.networks='spatial' is for images, and told no classes: set config.model.classes and "
            'config.model.dimensions to 0'
        )


def is_likelihood(config: ConfigDict) -> bool:
    """Whether the likelihood is one of the data as they are (or bounds it), so that its nats can be compared."""
    data = config.data
    return {
        'bernoulli': data.binarise,
        'discretized_logistic': not (data.binarise or data.dequantise),
        'gaussian': data.dequantise or config.model.dimensions > 0,
    }[config.model.likelihood]


def latents(config: ConfigDict) -> int:
    """How many numbers there are to a code."""
    model = config.model
    if model.networks == 'spatial':
        return math.prod(spatial.grid(shape(config), model.multipliers, model.latent_size))
    return sum(model.latent_size) if model.networks == 'ladder' else model.latent_size


def networks(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    """(encoder, decoder)."""
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    scale = 1.0 if model.likelihood == 'bernoulli' else model.scale  # Bernoulli has none, and none is to be learned
    if model.networks == 'dense':
        encoder = variational.DenseEncoder(model.features, model.latent_size, dtype=dtype)
        return encoder, variational.DenseDecoder(model.features[::-1], shape(config), scale, dtype=dtype)
    if model.networks == 'convolutional':
        encoder = variational.ConvolutionalEncoder(model.width, model.latent_size, dtype=dtype)
        return encoder, variational.ConvolutionalDecoder(model.width, shape(config), scale, dtype=dtype)
    if model.networks == 'spatial':
        sizes = dict(multipliers=tuple(model.multipliers), blocks=model.blocks, dtype=dtype)
        encoder = spatial.SpatialEncoder(model.width, model.latent_size, **sizes)
        return encoder, spatial.SpatialDecoder(model.width, model.latent_size, shape(config), scale, **sizes)
    if model.networks == 'ladder':
        encoder = variational.LadderEncoder(model.features, model.latent_size, dtype=dtype)
        return encoder, variational.LadderDecoder(model.features, model.latent_size, shape(config), scale, dtype=dtype)
    raise ConfigError(f'config.model.networks={model.networks!r}: choose dense, convolutional, spatial or ladder')
