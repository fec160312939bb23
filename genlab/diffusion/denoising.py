"""Evaluates the network of a model: its prediction, the estimate of x_0 and epsilon, and the denoiser with guidance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from genlab.abilities import Variables
from genlab.conditioning import Condition
from genlab.diffusion import conditions, guidance, predictions
from genlab.diffusion.model import Model
from genlab.diffusion.predictions import Denoiser, Estimate
from genlab.diffusion.processes import Process, like
from genlab.noise import stream
from genlab.training.state import Network

EARLIEST = 1e-5  # lowest time at which a network is evaluated, as a fraction of the end; at 0 there is no noise


def networks(model: Model, x: jax.Array, condition: Condition) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them.

    Args:
        model: the model.
        x: data [B, ...].
        condition: embedded condition of the same batch, leaves [B, ...].

    Returns:
        The denoiser, and the schedule of a learned process.
    """
    level = jnp.zeros(x.shape[0])
    found = {'denoiser': Network(model.network, (x, level, False), condition)}
    return {**found, 'schedule': Network(model.schedule, (level,))} if model.schedule is not None else found


def predict(
    model: Model,
    variables: Variables,
    process: Process,
    x: jax.Array,
    t: jax.Array,
    condition: Condition,
    train: bool = False,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Evaluates the network.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        process: the process.
        x: x_t [B, ...].
        t: times [B].
        condition: embedded condition, leaves [B, ...].
        train: whether to run the network in training mode.
        keys: dropout keys, one per example [B], or None.

    Returns:
        The prediction [B, ...], and the fraction of the log-variance [B, ...], or None if the variance is not
        learned.
    """
    settings, seen = model.settings, x
    if settings.deviation:
        alpha, sigma = process.alpha(t), process.sigma(t)
        seen = like(jax.lax.rsqrt(jnp.square(alpha * settings.deviation) + jnp.square(sigma)), x) * x
    apply: Callable[..., Any] = model.network.apply
    dropout = None if keys is None else stream(keys, 'dropout')
    output = apply(variables['denoiser'], seen, model.level(process, t), train, keys=dropout, **condition)
    if not settings.learned_variance:
        return output, None
    prediction, raw = jnp.split(output, 2, -1)
    return prediction, (raw + 1) / 2  # an output of 0 is the middle (Nichol & Dhariwal 2021, section 3.1)


def estimate(
    model: Model, process: Process, prediction: jax.Array, fraction: jax.Array | None, x: jax.Array, t: jax.Array
) -> Estimate:
    """Converts the outputs of `predict` to an estimate of x_0 and epsilon.

    Args:
        model: the model.
        process: the process.
        prediction: prediction of the network [B, ...].
        fraction: fraction of the log-variance [B, ...], or None.
        x: x_t [B, ...].
        t: times [B].

    Returns:
        The estimate.
    """
    name, deviation = model.settings.prediction, model.settings.deviation or 1.0
    return predictions.estimate(name, process, prediction, x, t, deviation)._replace(fraction=fraction)


def denoiser(model: Model, variables: Variables, condition: Condition) -> Denoiser:
    """Returns the denoiser of the network with the guidance of the config, neither clipped nor converted.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        condition: embedded condition, leaves [B, ...].

    Returns:
        The denoiser.
    """
    process, solving = model.process(variables), model.solving

    def conditioned(condition: Condition) -> Denoiser:
        def denoise(x: jax.Array, t: jax.Array) -> Estimate:
            t = jnp.broadcast_to(jnp.maximum(t, EARLIEST * process.end), x.shape[:1])
            return estimate(model, process, *predict(model, variables, process, x, t, condition), x, t)

        return denoise

    return guidance.guided(
        conditioned(condition),
        conditioned(conditions.without(model.settings, condition)),
        process,
        solving.guidance,
        (solving.guidance_from, solving.guidance_to),
        solving.guidance_channels,
    )
