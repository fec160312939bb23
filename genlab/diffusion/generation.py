"""Samples from a model by the solver of its config: from noise, from a noisy example, or along a deterministic flow."""

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from genlab import choices
from genlab.abilities import Variables
from genlab.conditioning import Condition
from genlab.diffusion import guidance, ode, processes, samplers, times
from genlab.diffusion.denoising import EARLIEST, denoiser
from genlab.diffusion.model import Model
from genlab.diffusion.predictions import Denoiser
from genlab.diffusion.processes import Process
from genlab.noise import normal


def solver(model: Model, variables: Variables, condition: Condition, clip: bool) -> tuple[Process, Denoiser]:
    """Returns the process in whose coordinates the solver works, and a denoiser of that process.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        condition: embedded condition, leaves [B, ...].
        clip: whether to clip the estimate of x_0 to [-1, 1].

    Returns:
        The process and the denoiser. An empty config.sample.process selects the process of training.
    """
    own, denoise = model.process(variables), denoiser(model, variables, condition)
    denoise = guidance.clipped(denoise, own) if clip else denoise
    if not model.solving.process:
        return own, denoise
    other = processes.PROCESSES[model.solving.process]()
    return other, guidance.converted(denoise, own, other)


def grid(model: Model, process: Process) -> jax.Array:
    """Returns the times [steps + 1] that the solver visits; see `times.visited`."""
    chosen = choices.bind(times.GRIDS, model.solving.grid, 'config.sample.grid')
    return times.visited(chosen, process, model.solving.steps)


def generate(
    model: Model,
    variables: Variables,
    keys: jax.Array,
    condition: Condition,
    *,
    start: Callable[[Process, jax.Array, jax.Array], jax.Array] | None = None,
    part: float = 1.0,
    between: Callable[[Process], Callable[..., jax.Array]] | None = None,
) -> jax.Array:
    """Samples by the sampler of the config.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        keys: one key per sample [N].
        condition: embedded condition, leaves [N, ...].
        start: (process, t [], keys) -> x_t [N, ...] at the first time t. The default is pure noise.
        part: the first time, as a fraction of the end, in (0, 1]. For a chain it is rounded up to one of its times.
        between: process -> the argument `between` of `solve`. The sampler 'ode' ignores it.

    Returns:
        Samples [N, ...].
    """
    solving = model.solving
    process, denoise = solver(model, variables, condition, clip=solving.clip and len(model.shape) == 3)
    process = shortened(process, part)
    options = choices.options(solving.sampler)
    if solving.sampler.name == 'ode':
        end = jnp.asarray(process.end, jnp.float32)
        x = start(process, end, keys) if start else noise(model, process, keys)
        return ode.integrate(denoise, process, x, process.end, EARLIEST * process.end, **options)
    visited = grid(model, process)
    x = start(process, visited[0], keys) if start else noise(model, process, keys)
    return samplers.solve(
        samplers.make(solving.sampler.name, **options),
        denoise,
        process,
        x,
        visited,
        keys,
        between=between and between(process),
        progress=partial(announce, len(visited) - 1) if solving.progress else None,
    )


def noise(model: Model, process: Process, keys: jax.Array) -> jax.Array:
    """Draws x [N, ...] at the end of the process, from one key per sample [N]."""
    return process.sigma(jnp.asarray(process.end, jnp.float32)) * normal(keys, model.shape, 'noise')


def flow(model: Model, variables: Variables, x: jax.Array, condition: Condition, forwards: bool = False) -> jax.Array:
    """Maps noise to data, or data to noise, along the probability-flow ODE by deterministic DDIM steps.

    Args:
        model: the model.
        variables: network -> {collection: values}.
        x: noise, or data if `forwards`, [N, ...].
        condition: embedded condition, leaves [N, ...].
        forwards: whether to map data to noise.

    Returns:
        Data, or noise if `forwards`, [N, ...].
    """
    process, denoise = solver(model, variables, condition, clip=False)
    visited = grid(model, process)
    keys = jax.vmap(jax.random.key)(jnp.zeros(x.shape[0], jnp.uint32))  # unused: the steps are deterministic
    return samplers.solve(samplers.make('ddim'), denoise, process, x, visited[::-1] if forwards else visited, keys)


def shortened(process: Process, part: float) -> Process:
    """Returns a process that ends at a fraction `part` of its end, for a chain at the next of its times."""
    if not process.chain:
        return process._replace(end=process.end * part)
    steps = max(math.ceil(process.chain * part - 1e-3), 1)
    return process._replace(end=process.end * (steps / process.chain), chain=steps)


def announce(steps: int, number: Any) -> None:
    """Prints the number of the completed solver step, of `steps`, on stderr."""
    end = '' if number < steps else '\n'
    print(f'\rsampling step {int(number)} of {steps}', end=end, file=sys.stderr, flush=True)
