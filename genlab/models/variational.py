"""Variational autoencoders (Kingma and Welling 2014; Rezende et al. 2014), conditional ones, and ladders of latents."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition
from genlab.data.source import example_shape
from genlab.errors import ConfigError, choose
from genlab.losses import divergences
from genlab.losses.likelihoods import LIKELIHOODS, Likelihood
from genlab.losses.reconstruction import squared_error
from genlab.models.first_stage import FirstStage
from genlab.networks.autoencoders import spatial
from genlab.networks.autoencoders import variational as layers
from genlab.networks.autoencoders.variational import join
from genlab.noise import normal, stream
from genlab.training.state import Network

Gaussian = tuple[jax.Array, jax.Array]  # mean and log-variance, [B, D] each
DECOMPOSITION = ('mutual_information', 'total_correlation', 'dimension_kl')
NEEDS = {'free_bits_kl': 'free_bits', 'importance_weighted': 'importance', **dict.fromkeys(DECOMPOSITION, 'examples')}


class VAE(NamedTuple):
    """An encoder and a decoder as in `genlab.networks.autoencoders.variational`, and the settings of the objective.

    Codes are standardised latents [B, size], N(0, 1) a priori, followed by the one-hot class where classes > 0.
    """

    encoder: nn.Module
    decoder: nn.Module
    likelihood: Likelihood
    size: int  # numbers per code, over all levels
    ladder: bool = False  # whether the decoder draws the latents of several levels
    classes: int = 0
    points: bool = False  # x is a point [D], not an image
    to_levels: float = 0.0  # nats per example from a density over [-1, 1) to 8-bit levels
    comparable: bool = True  # whether the likelihood is one of the data as they are
    free_bits: float | None = None  # nats per latent
    importance: int | None = None  # samples of the importance-weighted bound
    examples: int | None = None  # size of the training set
    axis: str | None = None  # of devices


class Inference(NamedTuple):
    """One draw of the latents, and the output of the decoder."""

    location: jax.Array  # [B, ...], of x
    log_scale: jax.Array  # broadcasts to it
    z: jax.Array  # [B, D], as all that follow
    posterior: Gaussian
    prior: Gaussian


def networks(vae: VAE, batch: Batch) -> dict[str, Network]:
    z = jnp.zeros((batch['x'].shape[0], vae.size))
    upward = ((z, z),) if vae.ladder else ()
    return {
        'encoder': Network(vae.encoder, (batch['x'], one_hot(vae, batch), False)),
        'decoder': Network(vae.decoder, (z, one_hot(vae, batch), False, *upward)),
    }


def one_hot(vae: VAE, batch: Batch) -> jax.Array:
    """Encodes the labels: [B, classes]; [B, 0] for an unconditional model."""
    return jax.nn.one_hot(batch['label'], vae.classes) if vae.classes else jnp.zeros((batch['x'].shape[0], 0))


def infer(vae: VAE, variables: Variables, batch: Batch) -> Gaussian:
    """Runs the encoder: mean and log-variance."""
    return vae.encoder.apply(variables['encoder'], batch['x'], one_hot(vae, batch), True)


def draw(vae: VAE, variables: Variables, batch: Batch, upward: Gaussian, epsilon: jax.Array) -> Inference:
    """Reparameterises: the latents of noise `epsilon` [B, size] under the posterior `upward`, and their decoding."""
    if vae.ladder:
        outputs = vae.decoder.apply(variables['decoder'], epsilon, one_hot(vae, batch), True, upward)
        location, log_scale, latents = outputs
        return Inference(location, log_scale, *latents)
    z = upward[0] + jnp.exp(upward[1] / 2) * epsilon
    location, log_scale = vae.decoder.apply(variables['decoder'], z, one_hot(vae, batch), True)
    return Inference(location, log_scale, z, upward, (jnp.zeros_like(z), jnp.zeros_like(z)))


def negative_log_likelihood(vae: VAE, drawn: Inference, x: jax.Array) -> jax.Array:
    """Computes -log p(x | z), nats [B]."""
    return vae.likelihood.negative_log(x, drawn.location, drawn.log_scale) + vae.to_levels


def weigh(vae: VAE, drawn: Inference, x: jax.Array) -> jax.Array:
    """Computes log p(x, z) - log q(z | x), nats [B]."""
    ratio = divergences.log_normal(drawn.z, *drawn.prior) - divergences.log_normal(drawn.z, *drawn.posterior)
    return ratio.sum(1) - negative_log_likelihood(vae, drawn, x)


def terms(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Terms of the one player, nats per example; the negative ELBO is reconstruction + kl.

    reconstruction: minus the log-likelihood. kl. free_bits_kl. importance_weighted: minus the bound of `vae.importance` samples.
    Without a ladder also the parts of the KL divergence: mutual_information, total_correlation, dimension_kl. The parts and
    free_bits_kl are computed over the whole batch of all devices, and over each microbatch by itself.
    """
    upward = infer(vae, variables, batch)
    drawn = draw(vae, variables, batch, upward, normal(keys, (vae.size,), 'posterior'))
    kl = divergences.gaussian_kl(*drawn.posterior, *drawn.prior)

    def importance_weighted() -> jax.Array:
        @jax.checkpoint  # so that memory does not grow with the number of samples
        def one(number):
            epsilon = normal(keys, (vae.size,), 'posterior', number)
            return weigh(vae, draw(vae, variables, batch, upward, epsilon), batch['x'])

        return -divergences.importance_bound(jax.lax.map(one, jnp.arange(vae.importance)))

    @functools.cache
    def parts() -> tuple[jax.Array, ...]:
        gather = lambda leaf: leaf if vae.axis is None else jax.lax.all_gather(leaf, vae.axis, tiled=True)
        return divergences.decompose_kl(drawn.z, *upward, *jax.tree.map(gather, upward), examples=vae.examples)

    offered = {
        'reconstruction': negative_log_likelihood(vae, drawn, batch['x']),
        'kl': kl.sum(1),
        'free_bits_kl': lambda: divergences.free_bits(kl, nats=vae.free_bits, axis=vae.axis),
        'importance_weighted': importance_weighted,
    }
    if not vae.ladder:  # there the posterior of one level depends on the latents above
        offered.update({name: lambda i=i: parts()[i] for i, name in enumerate(DECOMPOSITION)})
    return offered, {}


def prior(vae: VAE, variables: Variables, keys: jax.Array) -> jax.Array:
    """Draws codes, of a class per key at random where there are classes."""
    codes = normal(keys, (vae.size,), 'latent')
    if not vae.classes:
        return codes
    draw = lambda key: jax.random.randint(key, (), 0, vae.classes)
    return join(codes, jax.nn.one_hot(jax.vmap(draw)(stream(keys, 'first_class')), vae.classes))


def generate(vae: VAE, variables: Variables, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Runs the decoder on codes: location and log-scale."""
    return vae.decoder.apply(variables['decoder'], codes[:, : vae.size], codes[:, vae.size :], False)[:2]


def decode(vae: VAE, variables: Variables, codes: jax.Array) -> jax.Array:
    """Decodes codes to the mean of the likelihood."""
    return vae.likelihood.mean(generate(vae, variables, codes)[0])


def sample(vae: VAE, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples images as the mean of their likelihood, and points with its noise."""
    codes = normal(keys, (vae.size,), 'latent')
    if vae.classes:
        codes = join(codes, jax.nn.one_hot(condition['label'], vae.classes))
    location, log_scale = generate(vae, variables, codes)
    if not vae.points:
        return vae.likelihood.mean(location)
    return location + jnp.exp(log_scale) * normal(keys, location.shape[1:], 'deviation')


def encode(vae: VAE, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes to the posterior mean; of a ladder at every level, given the means above."""
    epsilon = jnp.zeros((batch['x'].shape[0], vae.size))
    drawn = draw(vae, variables, batch, infer(vae, variables, batch), epsilon)
    return join((drawn.z - drawn.prior[0]) * jnp.exp(-drawn.prior[1] / 2), one_hot(vae, batch))


def measure(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures kl, squared_error, and the negative ELBO.

    It is called `nll_bound` only where the likelihood is one of the data as they are, and `negative_elbo` otherwise.
    """
    drawn = draw(vae, variables, batch, infer(vae, variables, batch), normal(keys, (vae.size,), 'posterior'))
    kl = divergences.gaussian_kl(*drawn.posterior, *drawn.prior).sum(1)
    bound = negative_log_likelihood(vae, drawn, batch['x']) + kl
    error = squared_error(decode(vae, variables, encode(vae, variables, batch)), batch['x'])
    error = error if vae.points else error / 4  # of images in [0, 1]
    return {'nll_bound' if vae.comparable else 'negative_elbo': bound, 'kl': kl, 'squared_error': error}


def log_weight(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Computes log p(x, z) - log q(z | x) for one latent per key, nats [B]."""
    epsilon = normal(keys, (vae.size,), 'posterior')
    return weigh(vae, draw(vae, variables, batch, infer(vae, variables, batch), epsilon), batch['x'])


def reconstruct(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    return {'input': batch['x'], 'output': decode(vae, variables, encode(vae, variables, batch))}


def first_stage(vae: VAE, grid: tuple[int, int, int]) -> FirstStage:
    """Makes the first stage of latent diffusion of a VAE whose codes lie on a grid [h, w, D]."""

    def encode_grid(variables: Variables, batch: Batch, keys: jax.Array | None) -> jax.Array:
        nothing = jnp.zeros((len(batch['x']), 0))
        mean, log_variance = vae.encoder.apply(variables['encoder'], batch['x'], nothing, False)
        if keys is not None:
            mean = mean + jnp.exp(log_variance / 2) * normal(keys, mean.shape[1:], 'first_stage')
        return mean.reshape(-1, *grid)

    def decode_grid(variables: Variables, codes: jax.Array) -> jax.Array:
        return decode(vae, variables, codes.reshape(len(codes), -1))

    return FirstStage(
        grid,
        encode_grid,
        decode_grid,
        functools.partial(networks, vae),
        functools.partial(terms, vae),
        functools.partial(measure, vae),
        functools.partial(reconstruct, vae),
        trains=('encoder', 'decoder'),
    )


def from_config(config: ConfigDict, axis: str | None = None) -> VAE:
    """Makes the VAE of `config.model`.

    networks: 'dense', 'convolutional', 'spatial' or 'ladder', with their sizes. latent_size: of a ladder one per level; of
    'spatial' at each place of the grid. likelihood, and its scale (0: learned). classes: of the condition (0: none).
    dimensions: of a point (0: images). free_bits, importance and examples: where a weighted term needs them.
    """
    check(config)
    model, data = config.model, config.data
    encoder, decoder = choose(NETWORKS, model.networks, 'config.model.networks')(config)
    options = {name: model[name] for name in ('free_bits', 'importance', 'examples') if name in model}
    to_levels = math.log(128) * math.prod(example_shape(config)) if data.dequantise else 0.0
    return VAE(
        encoder,
        decoder,
        LIKELIHOODS[model.likelihood],
        latent_count(config),
        ladder=model.networks == 'ladder',
        classes=model.classes,
        points=model.dimensions > 0,
        to_levels=to_levels,
        comparable=is_likelihood(config),
        axis=axis,
        **options,
    )


def check(config: ConfigDict) -> None:
    """Raises ConfigError where a loss or a likelihood lacks what it needs."""
    model = config.model
    weighed = config.losses.vae if 'vae' in config.losses else {}
    for term, key in NEEDS.items():
        if term in weighed and key not in model:
            raise ConfigError(f'config.losses.vae.{term} needs config.model.{key}: set it in the config')
    choose(LIKELIHOODS, model.likelihood, 'config.model.likelihood')
    if model.dimensions and model.likelihood != 'gaussian':
        raise ConfigError(f"config.model.likelihood={model.likelihood!r} is for images: points need 'gaussian'")
    if model.networks == 'spatial' and (model.classes or model.dimensions):
        raise ConfigError(
            "config.model.networks='spatial' is for images, and is not conditioned on classes: set config.model.classes and "
            'config.model.dimensions to 0'
        )


def is_likelihood(config: ConfigDict) -> bool:
    """Returns whether the likelihood is one of the data as they are, or bounds it, so that its nats can be compared.

    Bernoulli of binarised images, discretised logistic of 8-bit levels, Gaussian of dequantised images or of points are. A
    Bernoulli of greys is a cross-entropy.
    """
    data = config.data
    return {
        'bernoulli': data.binarise,
        'discretized_logistic': not (data.binarise or data.dequantise),
        'gaussian': data.dequantise or config.model.dimensions > 0,
    }[config.model.likelihood]


def latent_count(config: ConfigDict) -> int:
    """Returns the numbers per code, over all levels or places."""
    model = config.model
    if model.networks == 'spatial':
        return math.prod(grid_of(config))
    return sum(model.latent_size) if model.networks == 'ladder' else model.latent_size


def grid_of(config: ConfigDict) -> tuple[int, int, int]:
    """Returns the shape [h, w, D] of the codes of 'spatial' networks."""
    return spatial.grid(example_shape(config), tuple(config.model.multipliers), config.model.latent_size)


def _scale(config: ConfigDict) -> float:
    """A Bernoulli likelihood has no scale, and none is to be learned."""
    return 1.0 if config.model.likelihood == 'bernoulli' else config.model.scale


def _dense(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = layers.DenseEncoder(model.features, model.latent_size, dtype=dtype)
    return encoder, layers.DenseDecoder(model.features[::-1], example_shape(config), _scale(config), dtype=dtype)


def _convolutional(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = layers.ConvolutionalEncoder(model.width, model.latent_size, dtype=dtype)
    return encoder, layers.ConvolutionalDecoder(model.width, example_shape(config), _scale(config), dtype=dtype)


def _spatial(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model = config.model
    sizes = dict(multipliers=tuple(model.multipliers), blocks=model.blocks, dtype=jnp.dtype(model.dtype))
    encoder = spatial.SpatialEncoder(model.width, model.latent_size, **sizes)
    return encoder, spatial.SpatialDecoder(
        model.width, model.latent_size, example_shape(config), _scale(config), **sizes
    )


def _ladder(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = layers.LadderEncoder(model.features, model.latent_size, dtype=dtype)
    return encoder, layers.LadderDecoder(
        model.features, model.latent_size, example_shape(config), _scale(config), dtype=dtype
    )


NETWORKS = {'dense': _dense, 'convolutional': _convolutional, 'spatial': _spatial, 'ladder': _ladder}
