"""Diffusion models and flows: the objective and the abilities of one denoiser, in data space or in latent space.

Ho et al. 2020; Karras et al. 2022; Kingma et al. 2021; Lipman et al. 2023.

For the arguments that all families share, see `genlab.models`.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import choices, conditioning
from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition
from genlab.data.source import example_shape
from genlab.diffusion import augmentation, bounds, conditions, denoising, generation, ode, predictions
from genlab.diffusion.guidance import keep_known
from genlab.diffusion.measures import BOUNDS, measures
from genlab.diffusion.model import Model, make_model
from genlab.diffusion.processes import diffuse, log_snr
from genlab.diffusion.settings import check_sampling
from genlab.errors import ConfigError
from genlab.losses.denoising import mean_squared_error
from genlab.noise import normal, stream
from genlab.training.state import Network


class Space(NamedTuple):
    """Holds the space that a model diffuses in: the data space, or the latent space of an autoencoder."""

    shape: tuple[int, ...]  # shape of an example in this space
    # (variables, batch, keys, train) -> (x [B, *shape], new collections of networks)
    enter: Callable[[Variables, Batch, jax.Array, bool], tuple[jax.Array, dict]]
    leave: Callable[[Variables, jax.Array], jax.Array]  # (variables, x [B, *shape]) -> samples [B, ...]
    networks: Callable[[Batch], dict[str, Network]]  # networks that `enter` and `leave` use
    updates: tuple[str, ...] = ()  # networks whose collections training writes


class Diffusion(NamedTuple):
    """Holds a denoiser with its process, the space, and the number of levels per value of the data."""

    model: Model
    space: Space
    levels: int  # 256, or 2 for binarised data

    @property
    def settings(self) -> ConfigDict:
        """Returns `config.model`."""
        return self.model.settings

    @property
    def trains(self) -> tuple[str, ...]:
        """Returns the names of the trained networks."""
        learned = {'schedule': self.model.schedule is not None, 'text': bool(self.settings.words)}
        return ('denoiser', *(name for name, there in learned.items() if there))


def pixels(config: ConfigDict) -> Space:
    """Returns the data space."""
    return Space(
        example_shape(config),
        enter=lambda variables, batch, keys, train: (batch['x'], {}),
        leave=lambda variables, x: x,
        networks=lambda batch: {},
    )


def from_config(config: ConfigDict, space: Space) -> Diffusion:
    """Makes the model of `config.model` and `config.sample` (genlab.diffusion.settings)."""
    check(config)
    return Diffusion(make_model(config, space.shape), space, 2 if config.data.binarise else 256)


def networks(diffusion: Diffusion, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    settings, x = diffusion.settings, jnp.zeros((batch['x'].shape[0], *diffusion.space.shape))
    return {
        **conditions.networks(settings, batch),
        **denoising.networks(diffusion.model, x, conditions.zeros(settings, batch)),
        **diffusion.space.networks(batch),
    }


def terms(diffusion: Diffusion, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the denoiser.

    epsilon, x0, v, velocity, edm: mean squared errors of that quantity. Where the network predicts another quantity,
        its error is reweighted (`genlab.diffusion.predictions`).
    min_snr: the error of x0 times min(SNR, config.model.gamma) (Hang et al. 2023).
    variance: variational bound, bits per dimension: T times that of one step. It trains learned variances only, with
        gradients through the mean stopped (Nichol & Dhariwal 2021, equation 16, weight 0.001).
    bound: variational bound in continuous time, bits per dimension (Kingma et al. 2021, equation 17).
    """
    model, space, levels = diffusion.model, diffusion.space, diffusion.levels
    settings, bits = model.settings, 1 / (math.prod(space.shape) * math.log(2))
    x_seen, motion = augment(diffusion, batch['x'], keys)
    x0, collections = space.enter(variables, {**batch, 'x': x_seen}, keys, True)
    process, epsilon = model.process(variables), normal(keys, space.shape, 'noise')
    t = model.quantile(process, model.draw(batch['position'], keys, step))
    x = diffuse(process, x0, epsilon, t)
    embedded = conditions.embed(settings, variables, _condition_of(diffusion, batch), train=True)
    condition = {**conditions.drop(settings, embedded, keys), **motion}
    deviation = settings.deviation or 1.0
    prediction, fraction = denoising.predict(model, variables, process, x, t, condition, train=True, keys=keys)
    estimate = denoising.estimate(model, process, prediction, fraction, x, t)
    target = predictions.target(settings.prediction, process, x0, epsilon, t, deviation)
    error = mean_squared_error(prediction, target)

    def weighted(name: str) -> jax.Array:
        return error * predictions.error_ratio(settings.prediction, name, process, t, deviation)

    def min_snr() -> jax.Array:
        return jnp.minimum(jnp.exp(log_snr(process, t)), settings.gamma) * weighted('x0')

    def variance() -> jax.Array:
        steps = settings.times.steps
        fixed = estimate._replace(x0=jax.lax.stop_gradient(estimate.x0))
        return bits * steps * bounds.step(process, x0, x, fixed, t, t - 1 / steps, 'learned', levels)

    def bound() -> jax.Array:
        first = diffuse(process, x0, normal(keys, space.shape, 'first_level'), jnp.zeros(()))
        ends = bounds.prior(process, x0) + bounds.reconstruction(process, x0, first, levels)
        return bits * (ends + process.end * bounds.continuous(process, epsilon, estimate, t))

    offered = {name: lambda name=name: weighted(name) for name in predictions.PREDICTIONS}
    return {**offered, 'min_snr': min_snr, 'variance': variance, 'bound': bound}, collections


def augment(diffusion: Diffusion, x: jax.Array, keys: jax.Array) -> tuple[jax.Array, Condition]:
    """Augments data for training.

    Args:
        diffusion: the model.
        x: data [B, ...].
        keys: one key per example [B].

    Returns:
        The augmented data [B, ...], and the condition that describes the augmentation: {'augmentation': [B, 9]}, or {}
        without augmentation.
    """
    probability = diffusion.settings.augmentation
    if not probability:
        return x, {}
    moved, numbers = augmentation.augment(x, stream(keys, 'augmentation'), probability)
    return moved, {'augmentation': numbers}


def sample(diffusion: Diffusion, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one example per key, in data space."""
    return diffusion.space.leave(variables, sample_space(diffusion, variables, keys, condition))


def sample_space(diffusion: Diffusion, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples x [N, *shape] in the space of the diffusion, one per key."""
    embedded = conditions.embed(diffusion.settings, variables, condition)
    return generation.generate(diffusion.model, variables, keys, embedded)


def inpaint(
    diffusion: Diffusion,
    variables: Variables,
    batch: Batch,
    mask: jax.Array,
    keys: jax.Array,
    condition: Condition,
) -> jax.Array:
    """Resamples the pixels outside the mask, and restores the known pixels after each step.

    Args:
        diffusion: the model.
        variables: network -> {collection: values}.
        batch: prepared batch; `x` [B, H, W, C] holds the known pixels.
        mask: 1 at known pixels and 0 elsewhere, [B, H, W, 1].
        keys: one key per example [B].
        condition: condition of the samples, leaves [B, ...].

    Returns:
        Images [B, H, W, C].
    """
    known = diffusion.space.enter(variables, batch, keys, False)[0]
    embedded = conditions.embed(diffusion.settings, variables, condition)
    between = lambda process: keep_known(process, known, coarse_mask(mask, diffusion.space.shape))
    x = generation.generate(diffusion.model, variables, keys, embedded, between=between)
    return diffusion.space.leave(variables, x)


def image_to_image(
    diffusion: Diffusion, variables: Variables, batch: Batch, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Adds noise up to the fraction config.sample.strength of the process, then denoises (SDEdit, Meng et al. 2022)."""
    model, space = diffusion.model, diffusion.space
    x0 = space.enter(variables, batch, keys, False)[0]
    noise = normal(keys, space.shape, 'noise')
    start = lambda process, t, keys: diffuse(process, x0, noise, t)
    embedded = conditions.embed(diffusion.settings, variables, condition)
    x = generation.generate(model, variables, keys, embedded, start=start, part=model.solving.strength)
    return space.leave(variables, x)


def measure(diffusion: Diffusion, variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
    """Measures errors and bounds of the denoiser; see `genlab.diffusion.measures`."""
    x0 = diffusion.space.enter(variables, batch, keys, False)[0]
    embedded = conditions.embed(diffusion.settings, variables, _condition_of(diffusion, batch))
    return measures(diffusion.model, diffusion.levels)(variables, x0, embedded, keys)


def log_likelihood(diffusion: Diffusion, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Computes the exact log-density along the probability-flow ODE, nats [B]."""
    model = diffusion.model
    embedded = conditions.embed(diffusion.settings, variables, _condition_of(diffusion, batch))
    denoise = denoising.denoiser(model, variables, embedded)
    return ode.log_likelihood(denoise, model.process(variables), batch['x'], keys)


def prior(diffusion: Diffusion, variables: Variables, keys: jax.Array) -> jax.Array:
    """Draws codes: noise [N, *shape] at the end of the process."""
    return generation.noise(diffusion.model, diffusion.model.process(variables), keys)


def encode(diffusion: Diffusion, variables: Variables, batch: Batch) -> jax.Array:
    """Maps data to noise by DDIM steps under the null condition."""
    null = conditions.null(diffusion.settings, variables, batch['x'].shape[0])
    return generation.flow(diffusion.model, variables, batch['x'], null, forwards=True)


def decode(diffusion: Diffusion, variables: Variables, noise: jax.Array) -> jax.Array:
    """Maps noise to data by DDIM steps under the null condition."""
    null = conditions.null(diffusion.settings, variables, noise.shape[0])
    return generation.flow(diffusion.model, variables, noise, null)


def coarse_mask(mask: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Reduces a mask [B, H, W, 1] to [B, *shape[:2], 1]. A cell is 1 if all of its pixels are 1."""
    batch, height, width = mask.shape[0], *shape[:2]
    return mask.reshape(batch, height, mask.shape[1] // height, width, mask.shape[2] // width, 1).min((2, 4))


def _condition_of(diffusion: Diffusion, batch: Batch) -> Condition:
    return conditioning.from_batch(conditions.declared(diffusion.settings), batch)


def check(config: ConfigDict) -> None:
    """Raises ConfigError if parts of the config contradict each other."""
    check_sampling(config)
    model = config.model
    bound = model.bound.name
    choices.bind(BOUNDS, model.bound, 'config.model.bound')
    if model.times.name != 'discrete' and (bound == 'discrete' or 'variance' in config.losses.denoiser):
        raise ConfigError(
            'config.model.bound=discrete and config.losses.denoiser.variance need discrete times: set '
            'config.model.times.name=discrete, or remove them'
        )
    if model.learned_variance != ('variance' in config.losses.denoiser):
        raise ConfigError('config.losses.denoiser.variance and config.model.learned_variance=True need each other')
    if bound != 'none' and (config.data.dequantise or model.dimensions):
        raise ConfigError(f'config.model.bound={bound!r} is for 8-bit levels: set config.model.bound=none')
    if 'bound' in config.losses.denoiser and model.times.name != 'uniform':
        raise ConfigError('config.losses.denoiser.bound needs uniform times: set config.model.times.name=uniform')
