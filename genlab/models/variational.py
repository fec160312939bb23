"""Variational autoencoders (Kingma and Welling 2014; Rezende et al. 2014), also conditional or hierarchical.

For the arguments that all families share, see `genlab.models`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.choices import named
from genlab.conditioning import Condition
from genlab.config import counted
from genlab.data.source import example_shape
from genlab.errors import ConfigError
from genlab.losses import divergences
from genlab.losses.likelihoods import LIKELIHOODS, Likelihood
from genlab.losses.reconstruction import squared_error
from genlab.models.first_stage import FirstStage
from genlab.models.tokenizer import Tokenizer
from genlab.networks.autoencoders import spatial
from genlab.networks.autoencoders import variational as layers
from genlab.networks.autoencoders.variational import join
from genlab.noise import normal, stream
from genlab.training.state import Network

Gaussian = tuple[jax.Array, jax.Array]  # mean and log-variance, [B, D] each
DECOMPOSITION = ('mutual_information', 'total_correlation', 'dimension_kl')
NEEDS = {'free_bits_kl': 'free_bits', 'importance_weighted': 'importance'}  # term -> a setting above 0


def settings(networks: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a VAE on binarised images, with changes."""
    known = choices.filled(
        'config.model',
        dict(
            networks=networks,  # named: dense, convolutional, spatial or ladder, see NETWORKS
            latent_size=20,  # latents per code; per level of a ladder, a tuple; per cell of a spatial grid
            likelihood=named('bernoulli'),  # or gaussian, discretized_logistic: with a scale, 0 learns it
            classes=0,  # of the class label that encoder and decoder take; 'auto': those of the data; 0 for none
            dimensions=0,  # number of coordinates of a point; 0 for images
            free_bits=0.0,  # nats per latent, for the term free_bits_kl
            importance=0,  # samples of the bound, for the term importance_weighted
            examples=0,  # size of the training set, for the decomposition of the KL; 0 reads it from the data
        ),
        changes,
    )
    return known | {'classes': counted(known['classes'])}


class VAE(NamedTuple):
    """Holds an encoder, a decoder, and the settings of the objective.

    For both networks see `genlab.networks.autoencoders.variational`. Codes are standardised latents [B, size] with
    prior N(0, 1), followed by the one-hot class if classes > 0.
    """

    encoder: nn.Module
    decoder: nn.Module
    likelihood: Likelihood
    size: int  # latents per code, over all levels
    ladder: bool = False  # whether the decoder draws the latents of several levels
    classes: int = 0
    points: bool = False  # whether x is a point [D], not an image
    to_levels: float = 0.0  # nats per example added to convert a density over [-1, 1) to one over 8-bit levels
    comparable: bool = True  # whether it is a likelihood of the data themselves
    free_bits: float = 0.0  # nats per latent
    importance: int = 0  # number of samples of the importance-weighted bound
    examples: int = 0  # size of the training set
    axis: str | None = None  # mapped axis of the devices


class Inference(NamedTuple):
    """Holds one draw of the latents and the output of the decoder."""

    location: jax.Array  # [B, ...], location of x
    log_scale: jax.Array  # broadcasts to the location
    z: jax.Array  # [B, D]
    posterior: Gaussian  # [B, D] each
    prior: Gaussian  # [B, D] each


def networks(vae: VAE, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    z = jnp.zeros((batch['x'].shape[0], vae.size))
    upward = ((z, z),) if vae.ladder else ()
    return {
        'encoder': Network(vae.encoder, (batch['x'], one_hot(vae, batch), False)),
        'decoder': Network(vae.decoder, (z, one_hot(vae, batch), False, *upward)),
    }


def one_hot(vae: VAE, batch: Batch) -> jax.Array:
    """Encodes the labels as one-hot [B, classes], or [B, 0] for an unconditional model."""
    return jax.nn.one_hot(batch['label'], vae.classes) if vae.classes else jnp.zeros((batch['x'].shape[0], 0))


def infer(vae: VAE, variables: Variables, batch: Batch) -> Gaussian:
    """Encodes examples as mean and log-variance, [B, size] each."""
    return cast(Gaussian, vae.encoder.apply(variables['encoder'], batch['x'], one_hot(vae, batch), True))


def draw(vae: VAE, variables: Variables, batch: Batch, upward: Gaussian, epsilon: jax.Array) -> Inference:
    """Draws latents by the reparameterisation trick, and decodes them.

    Args:
        vae: the model.
        variables: network -> {collection: values}.
        batch: prepared batch, of which the label is used.
        upward: mean and log-variance from the encoder, [B, size] each.
        epsilon: noise [B, size], N(0, 1).

    Returns:
        The latents with their posterior and prior, and the output of the decoder.
    """
    outputs: Any
    if vae.ladder:
        outputs = vae.decoder.apply(variables['decoder'], epsilon, one_hot(vae, batch), True, upward)
        location, log_scale, latents = outputs
        return Inference(location, log_scale, *latents)
    z = upward[0] + jnp.exp(upward[1] / 2) * epsilon
    outputs = vae.decoder.apply(variables['decoder'], z, one_hot(vae, batch), True)
    location, log_scale = outputs
    return Inference(location, log_scale, z, upward, (jnp.zeros_like(z), jnp.zeros_like(z)))


def negative_log_likelihood(vae: VAE, drawn: Inference, x: jax.Array) -> jax.Array:
    """Computes -log p(x | z) of examples x [B, ...], nats [B]."""
    return vae.likelihood.negative_log(x, drawn.location, drawn.log_scale) + vae.to_levels


def log_importance(vae: VAE, drawn: Inference, x: jax.Array) -> jax.Array:
    """Computes log p(x, z) - log q(z | x) of examples x [B, ...], nats [B]."""
    ratio = divergences.log_normal(drawn.z, *drawn.prior) - divergences.log_normal(drawn.z, *drawn.posterior)
    return ratio.sum(1) - negative_log_likelihood(vae, drawn, x)


def terms(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the player, nats per example. The negative ELBO is reconstruction + kl.

    reconstruction: minus the log-likelihood.
    kl: KL divergence of the posterior from the prior.
    free_bits_kl: KL divergence with `vae.free_bits` free nats per latent.
    importance_weighted: minus the bound of `vae.importance` samples.
    mutual_information, total_correlation, dimension_kl: parts of the KL divergence; not for a ladder.

    The parts and free_bits_kl depend on the batch. They are computed over all devices, separately per microbatch.
    """
    upward = infer(vae, variables, batch)
    drawn = draw(vae, variables, batch, upward, normal(keys, (vae.size,), 'posterior'))
    kl = divergences.gaussian_kl(*drawn.posterior, *drawn.prior)

    def importance_weighted() -> jax.Array:
        @jax.checkpoint  # keeps memory independent of the number of samples
        def one(number: jax.Array) -> jax.Array:
            epsilon = normal(keys, (vae.size,), 'posterior', number)
            return log_importance(vae, draw(vae, variables, batch, upward, epsilon), batch['x'])

        return -divergences.importance_bound(jax.lax.map(one, jnp.arange(vae.importance)))

    def free_bits_kl() -> jax.Array:
        assert vae.free_bits is not None  # `check` requires it
        return divergences.free_bits(kl, nats=vae.free_bits, axis=vae.axis)

    @functools.cache
    def parts() -> tuple[jax.Array, ...]:
        assert vae.examples is not None  # `check` requires it
        gather = lambda leaf: leaf if vae.axis is None else jax.lax.all_gather(leaf, vae.axis, tiled=True)
        return divergences.decompose_kl(drawn.z, *upward, *jax.tree.map(gather, upward), examples=vae.examples)

    offered = {
        'reconstruction': negative_log_likelihood(vae, drawn, batch['x']),
        'kl': kl.sum(1),
        'free_bits_kl': free_bits_kl,
        'importance_weighted': importance_weighted,
    }
    if not vae.ladder:  # in a ladder, the posterior of a level depends on the latents above it
        offered.update({name: lambda i=i: parts()[i] for i, name in enumerate(DECOMPOSITION)})
    return offered, {}


def prior(vae: VAE, variables: Variables, keys: jax.Array) -> jax.Array:
    """Draws codes [N, ...] from the prior. A conditional model draws one uniform class per key."""
    codes = normal(keys, (vae.size,), 'latent')
    if not vae.classes:
        return codes
    draw = lambda key: jax.random.randint(key, (), 0, vae.classes)
    return join(codes, jax.nn.one_hot(jax.vmap(draw)(stream(keys, 'first_class')), vae.classes))


def generate(vae: VAE, variables: Variables, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decodes codes [N, size + classes] to the location [N, ...] and log-scale of x."""
    outputs = vae.decoder.apply(variables['decoder'], codes[:, : vae.size], codes[:, vae.size :], False)
    return cast(tuple[jax.Array, jax.Array], outputs[:2])


def decode(vae: VAE, variables: Variables, codes: jax.Array) -> jax.Array:
    """Decodes codes [N, size + classes] to the mean of the likelihood, [N, ...]."""
    return vae.likelihood.mean(generate(vae, variables, codes)[0])


def sample(vae: VAE, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples images as the mean of their likelihood, and points from their likelihood."""
    codes = normal(keys, (vae.size,), 'latent')
    if vae.classes:
        codes = join(codes, jax.nn.one_hot(condition['label'], vae.classes))
    location, log_scale = generate(vae, variables, codes)
    if not vae.points:
        return vae.likelihood.mean(location)
    return location + jnp.exp(log_scale) * normal(keys, location.shape[1:], 'deviation')


def encode(vae: VAE, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes to the posterior mean. In a ladder, each level is conditioned on the means above it."""
    epsilon = jnp.zeros((batch['x'].shape[0], vae.size))
    drawn = draw(vae, variables, batch, infer(vae, variables, batch), epsilon)
    return join((drawn.z - drawn.prior[0]) * jnp.exp(-drawn.prior[1] / 2), one_hot(vae, batch))


def measure(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures kl in nats, squared_error (of images in [0, 1]), and the negative ELBO in nats.

    The negative ELBO is named `nll_bound` if the likelihood is one of the data themselves, otherwise `negative_elbo`.
    """
    drawn = draw(vae, variables, batch, infer(vae, variables, batch), normal(keys, (vae.size,), 'posterior'))
    kl = divergences.gaussian_kl(*drawn.posterior, *drawn.prior).sum(1)
    bound = negative_log_likelihood(vae, drawn, batch['x']) + kl
    error = squared_error(decode(vae, variables, encode(vae, variables, batch)), batch['x'])
    error = error if vae.points else error / 4  # rescaled to images in [0, 1]
    return {'nll_bound' if vae.comparable else 'negative_elbo': bound, 'kl': kl, 'squared_error': error}


def log_weight(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Computes log p(x, z) - log q(z | x) for one latent per key, nats [B]."""
    epsilon = normal(keys, (vae.size,), 'posterior')
    return log_importance(vae, draw(vae, variables, batch, infer(vae, variables, batch), epsilon), batch['x'])


def reconstruct(vae: VAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Reconstructs examples from their posterior means."""
    return {'input': batch['x'], 'output': decode(vae, variables, encode(vae, variables, batch))}


def first_stage(vae: VAE, grid: tuple[int, int, int]) -> FirstStage:
    """Makes the first stage of latent diffusion from a VAE with codes on a grid [h, w, D]."""

    def encode_grid(variables: Variables, batch: Batch, keys: jax.Array | None) -> jax.Array:
        nothing = jnp.zeros((len(batch['x']), 0))
        outputs = vae.encoder.apply(variables['encoder'], batch['x'], nothing, False)
        mean, log_variance = cast(Gaussian, outputs)
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


def tokenizer(vae: VAE, shape: tuple[int, ...]) -> Tokenizer:
    """Makes the tokenizer of a second stage: continuous codes [B, *shape], the means of the posterior."""

    def encode_shaped(variables: Variables, batch: Batch) -> jax.Array:
        codes = encode(vae, variables, batch)
        return codes.reshape(len(codes), *shape)

    def decode_shaped(variables: Variables, codes: jax.Array) -> jax.Array:
        return decode(vae, variables, codes.reshape(len(codes), -1))

    return Tokenizer(
        shape, 0, encode_shaped, decode_shaped, functools.partial(networks, vae), names=('encoder', 'decoder')
    )


def from_config(config: ConfigDict, axis: str | None = None) -> VAE:
    """Makes the VAE of `config.model`, see `settings`."""
    check(config)
    model, data = config.model, config.data
    encoder, decoder = choices.bind(NETWORKS, model.networks, 'config.model.networks')(config, _scale_of(config))
    to_levels = math.log(128) * math.prod(example_shape(config)) if data.dequantise else 0.0
    return VAE(
        encoder,
        decoder,
        LIKELIHOODS[model.likelihood.name],
        latent_count(config),
        ladder=model.networks.name == 'ladder',
        classes=model.classes,
        points=model.dimensions > 0,
        to_levels=to_levels,
        comparable=is_likelihood(config),
        free_bits=model.free_bits,
        importance=model.importance,
        examples=model.examples,
        axis=axis,
    )


def check(config: ConfigDict) -> None:
    """Raises ConfigError if a loss or a likelihood lacks a setting that it needs."""
    model = config.model
    weighted = config.losses.vae if 'vae' in config.losses else {}
    for term, key in NEEDS.items():
        if term in weighted and not model[key]:
            raise ConfigError(f'config.losses.vae.{term} needs config.model.{key} above 0: set it')
    choices.bind(NETWORKS, model.networks, 'config.model.networks')
    _scale_of(config)
    if model.dimensions and model.likelihood.name != 'gaussian':
        raise ConfigError(f"config.model.likelihood={model.likelihood.name!r} is for images: points need 'gaussian'")
    if model.networks.name == 'spatial' and (model.classes or model.dimensions):
        raise ConfigError(
            "config.model.networks='spatial' is for images and unconditional: set config.model.classes and "
            'config.model.dimensions to 0'
        )


def is_likelihood(config: ConfigDict) -> bool:
    """Returns whether the likelihood is one of the data themselves, or bounds it, so that its nats are comparable.

    True for Bernoulli on binarised images, discretised logistic on 8-bit levels, and Gaussian on dequantised images or
    points. A Bernoulli likelihood on grey values is only a cross-entropy.
    """
    data = config.data
    return {
        'bernoulli': data.binarise,
        'discretized_logistic': not (data.binarise or data.dequantise),
        'gaussian': data.dequantise or config.model.dimensions > 0,
    }[config.model.likelihood.name]


def latent_count(config: ConfigDict) -> int:
    """Returns the number of latents per code, over all levels or cells."""
    model = config.model
    if model.networks.name == 'spatial':
        return math.prod(grid_of(config))
    return sum(model.latent_size) if model.networks.name == 'ladder' else model.latent_size


def grid_of(config: ConfigDict) -> tuple[int, int, int]:
    """Returns the shape [h, w, D] of the codes of 'spatial' networks."""
    return spatial.grid(example_shape(config), tuple(config.model.networks.multipliers), config.model.latent_size)


def code_shape(config: ConfigDict) -> tuple[int, ...]:
    """Returns the shape of a code without a class: a grid [h, w, D] of 'spatial' networks, else a vector."""
    if config.model.networks.name == 'spatial':
        return grid_of(config)
    return (latent_count(config),)


def _no_scale() -> float:
    return 1.0  # so that no scale is learned


def _scale(scale: float = 0.0) -> float:
    return scale


SCALES: dict[str, Callable[..., float]] = {
    'bernoulli': _no_scale,
    'gaussian': _scale,
    'discretized_logistic': _scale,
}


def _scale_of(config: ConfigDict) -> float:
    """Returns the scale of the likelihood; 0 learns it."""
    return choices.build(SCALES, config.model.likelihood, 'config.model.likelihood')


def _dense(config: ConfigDict, scale: float, *, features: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = layers.DenseEncoder(features, model.latent_size, dtype=dtype)
    return encoder, layers.DenseDecoder(features[::-1], example_shape(config), scale, dtype=dtype)


def _convolutional(config: ConfigDict, scale: float, *, width: int) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = layers.ConvolutionalEncoder(width, model.latent_size, dtype=dtype)
    return encoder, layers.ConvolutionalDecoder(width, example_shape(config), scale, dtype=dtype)


def _spatial(
    config: ConfigDict, scale: float, *, width: int, multipliers: tuple[int, ...], blocks: int
) -> tuple[nn.Module, nn.Module]:
    model = config.model
    sizes = dict(multipliers=tuple(multipliers), blocks=blocks, dtype=jnp.dtype(model.dtype))
    encoder = spatial.SpatialEncoder(width, model.latent_size, **sizes)
    shape = example_shape(config)
    return encoder, spatial.SpatialDecoder(width, model.latent_size, shape, scale, **sizes)


def _ladder(config: ConfigDict, scale: float, *, features: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = layers.LadderEncoder(features, model.latent_size, dtype=dtype)
    shape = example_shape(config)
    return encoder, layers.LadderDecoder(features, model.latent_size, shape, scale, dtype=dtype)


# Name -> (encoder, decoder) of a config and the scale of its likelihood; the keyword arguments are the options.
NETWORKS: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {
    'dense': _dense,
    'convolutional': _convolutional,
    'spatial': _spatial,
    'ladder': _ladder,
}
