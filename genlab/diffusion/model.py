"""A denoising network and its process, as a config describes them. All diffusion experiments build on this module."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Variables
from genlab.conditioning import Condition
from genlab.diffusion import augmentation, guidance, ode, predictions, processes, samplers, times
from genlab.diffusion.predictions import Denoiser, Estimate
from genlab.diffusion.processes import Process, like
from genlab.diffusion.settings import chain
from genlab.errors import ConfigError, choose
from genlab.networks.diffusion.dit import DiT
from genlab.networks.diffusion.points import PointNetwork
from genlab.networks.diffusion.unet import UNet
from genlab.networks.diffusion.vdm import MonotoneSchedule, VariationalUNet
from genlab.noise import named_key, normal, stream, uniform
from genlab.training.state import Network

Level = Callable[[Process, jax.Array], jax.Array]  # (process, t [B]) -> level [B], the network's input for the time


def _time(scale: float) -> Level:
    """Returns the level that is proportional to the time, `scale` at the end of the process.

    A chain of T steps counts them from 0: step k has the level scale (k - 1) / T (Ho et al. 2020, their code).
    """

    def level(process: Process, t: jax.Array) -> jax.Array:
        if not process.chain:
            return scale * t / process.end
        return scale * jnp.maximum(t / process.end - 1 / process.chain, 0)

    return level


NETWORKS: dict[str, type[nn.Module]] = {
    'unet': UNet,
    'transformer': DiT,
    'variational': VariationalUNet,
    'points': PointNetwork,
}
TIMES = {'time': 1000.0, 'unit_time': 1.0}  # level at the end of the process; use 1 where time is differentiated
# log_sigma: log(sigma / alpha) / 4 (Karras et al. 2022, table 1). log_snr: from 0 at a log-SNR of 13.3 to 1000 at one
# of -5 (Kingma et al. 2021, appendix B.3).
LEVELS: dict[str, Level] = {
    **{name: _time(scale) for name, scale in TIMES.items()},
    'log_sigma': lambda process, t: -processes.log_snr(process, t) / 8,
    'log_snr': lambda process, t: 1000 * (13.3 - processes.log_snr(process, t)) / 18.3,
}
EARLIEST = 1e-5  # lowest time at which a network is evaluated, as a fraction of the end; at 0 there is no noise


class Model:
    """Holds a denoising network and its process, and derives training inputs, denoisers and samples from them.

    `config.model` and `config.sample` describe the model (genlab.diffusion.settings). `shape` is the shape of one
    example of x. Variables hold 'denoiser', and 'schedule' where the process is learned.
    """

    def __init__(self, config: ConfigDict, shape: tuple[int, ...]):
        self.settings, self.solving, self.shape = config.model, config.sample, shape
        self.batch_size, self.seed = config.data.batch_size, config.seed
        choose(predictions.PREDICTIONS, self.settings.prediction, 'config.model.prediction')
        self.level = choose(LEVELS, self.settings.level, 'config.model.level')
        self.quantile = choices.build(times.QUANTILES, self.settings.times, 'config.model.times')
        self.network = self._network(jnp.dtype(self.settings.dtype))
        self.chain = chain(config.model)
        self.learned = self.settings.process.name == 'learned'
        if self.learned:
            self.schedule = choices.build({'learned': MonotoneSchedule}, self.settings.process, 'config.model.process')
        else:
            fixed = choices.build(processes.PROCESSES, self.settings.process, 'config.model.process')
            self.fixed = fixed._replace(chain=self.chain)

    def _network(self, dtype: Any) -> nn.Module:
        chosen, channels = self.settings.network, self.shape[-1] * (2 if self.settings.learned_variance else 1)
        fields = choices.options(chosen)
        make = choose(NETWORKS, chosen.name, 'config.model.network.name')
        known = {field.name for field in dataclasses.fields(make)} - {'parent', 'name'}
        if unknown := sorted({*fields} - known):
            raise ConfigError(
                f'config.model.network.{unknown[0]}: {chosen.name} has no such field; it has {", ".join(sorted(known))}'
            )
        given = {'channels': channels, 'classes': self.settings.classes, 'dtype': dtype, 'remat': self.settings.remat}
        network = make(**fields, **{name: value for name, value in given.items() if name in known})
        if self.settings.augmentation and getattr(network, 'augmentation', 0) != augmentation.NUMBERS:
            raise ConfigError(
                f'config.model.augmentation={self.settings.augmentation}: the network is not conditioned on it: set it '
                f'to 0, or use a unet with config.model.network.augmentation={augmentation.NUMBERS}'
            )
        return network

    def networks(self, x: jax.Array, condition: Condition) -> dict[str, Network]:
        """Returns the networks by name, with inputs that initialise them.

        x: data [B, ...]. condition: embedded condition of the same batch, leaves [B, ...].
        """
        level = jnp.zeros(x.shape[0])
        found = {'denoiser': Network(self.network, (x, level, False), condition)}
        return {**found, 'schedule': Network(self.schedule, (level,))} if self.learned else found

    def process(self, variables: Variables) -> Process:
        """Returns the process. A learned one reads its schedule from the variables."""
        if not self.learned:
            return self.fixed
        learned = processes.from_gamma(lambda t: self.schedule.apply(variables['schedule'], t))
        return learned._replace(chain=self.chain)

    def draw_times(self, process: Process, position: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        """Draws the times [B] of a training step.

        Args:
          process: the process.
          position: index in the global batch [B].
          keys: one key per example [B].
          step: the training step, int32 [].
        """
        return self.quantile(process, self.draw_uniform(position, keys, step))

    def draw_uniform(self, position: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        """Draws u [B] in [0, 1), of which the times are quantiles. Arguments: see `draw_times`."""
        if not self.settings.stratified:
            return uniform(keys, (), 'time')
        key = jax.random.fold_in(named_key(jax.random.key(self.seed), 'time'), step)  # one for the whole global batch
        return times.stratified(key, position, self.batch_size)

    def drop(self, condition: Condition, keys: jax.Array) -> Condition:
        """Replaces the condition of random examples by the null condition, so that the network learns both.

        condition: embedded condition, leaves [B, ...]. keys: one key per example [B]. The probability per example is
        config.model.drop_condition. Returns the new condition.
        """
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, self.settings.drop_condition))(stream(keys, 'drop'))
        none = self.without(condition)
        return {name: jnp.where(like(dropped, value), none[name], value) for name, value in condition.items()}

    def without(self, condition: Condition) -> Condition:
        """Returns the null condition: the null label, and a mask that keeps only the start token of each caption."""
        none = dict(condition)
        if 'labels' in none:
            none['labels'] = jnp.full_like(none['labels'], self.settings.classes)
        if 'context_mask' in none:
            none['context_mask'] = jnp.zeros_like(none['context_mask']).at[:, 0].set(True)
        return none

    def augment(self, x: jax.Array, keys: jax.Array) -> tuple[jax.Array, Condition]:
        """Augments data for training.

        x: data [B, ...]. keys: one key per example [B]. Returns the augmented data [B, ...], and the condition that
        describes the augmentation: {'augmentation': [B, 9]}, or {} without augmentation.
        """
        if not self.settings.augmentation:
            return x, {}
        own = stream(keys, 'augmentation')
        moved, numbers = augmentation.augment(x, own, self.settings.augmentation)
        return moved, {'augmentation': numbers}

    def predict(
        self,
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
        alpha, sigma = process.alpha(t), process.sigma(t)
        seen = x
        if self.settings.deviation:
            seen = like(jax.lax.rsqrt(jnp.square(alpha * self.settings.deviation) + jnp.square(sigma)), x) * x
        apply: Callable[..., Any] = self.network.apply
        dropout = None if keys is None else stream(keys, 'dropout')
        output = apply(variables['denoiser'], seen, self.level(process, t), train, keys=dropout, **condition)
        if not self.settings.learned_variance:
            return output, None
        prediction, raw = jnp.split(output, 2, -1)
        return prediction, (raw + 1) / 2  # an output of 0 is the middle (Nichol & Dhariwal 2021, section 3.1)

    def estimate(
        self, process: Process, prediction: jax.Array, fraction: jax.Array | None, x: jax.Array, t: jax.Array
    ) -> Estimate:
        """Converts the outputs of `predict` to an estimate of x_0 and epsilon.

        Args:
            process: the process.
            prediction: prediction of the network [B, ...].
            fraction: fraction of the log-variance [B, ...], or None.
            x: x_t [B, ...].
            t: times [B].

        Returns:
            The estimate.
        """
        deviation = self.settings.deviation or 1.0
        return predictions.estimate(self.settings.prediction, process, prediction, x, t, deviation)._replace(
            fraction=fraction
        )

    def denoiser(self, variables: Variables, condition: Condition) -> Denoiser:
        """Returns the denoiser of the network with the guidance of the config, neither clipped nor converted."""
        process = self.process(variables)

        def conditioned(condition: Condition) -> Denoiser:
            def denoise(x: jax.Array, t: jax.Array) -> Estimate:
                t = jnp.broadcast_to(jnp.maximum(t, EARLIEST * process.end), x.shape[:1])
                return self.estimate(process, *self.predict(variables, process, x, t, condition), x, t)

            return denoise

        return guidance.guided(
            conditioned(condition),
            conditioned(self.without(condition)),
            process,
            self.solving.guidance,
            (self.solving.guidance_from, self.solving.guidance_to),
            self.solving.guidance_channels,
        )

    def solver(self, variables: Variables, condition: Condition, clip: bool) -> tuple[Process, Denoiser]:
        """Returns the process in whose coordinates the solver works, and a denoiser of that process.

        Args:
            variables: network -> {collection: values}.
            condition: embedded condition, leaves [B, ...].
            clip: whether to clip the estimate of x_0 to [-1, 1].

        Returns:
            The process and the denoiser. An empty config.sample.process selects the process of training.
        """
        own, denoise = self.process(variables), self.denoiser(variables, condition)
        denoise = guidance.clipped(denoise, own) if clip else denoise
        if not self.solving.process:
            return own, denoise
        other = processes.PROCESSES[self.solving.process]()
        return other, guidance.converted(denoise, own, other)

    def grid(self, process: Process) -> jax.Array:
        """Returns the times [steps + 1] that the solver visits; see `times.visited`."""
        grid = choices.bind(times.GRIDS, self.solving.grid, 'config.sample.grid')
        return times.visited(grid, process, self.solving.steps)

    def generate(
        self,
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
            variables: network -> {collection: values}.
            keys: one key per sample [N].
            condition: embedded condition, leaves [N, ...].
            start: (process, t [], keys) -> x_t [N, ...] at the first time t. The default is pure noise.
            part: the first time, as a fraction of the end, in (0, 1]. For a chain it is rounded up to one of its times.
            between: process -> the argument `between` of `solve`. The sampler 'ode' ignores it.

        Returns:
            Samples [N, ...].
        """
        process, denoise = self.solver(variables, condition, clip=self.solving.clip and len(self.shape) == 3)
        process = shortened(process, part)
        options = choices.options(self.solving.sampler)
        if self.solving.sampler.name == 'ode':
            end = jnp.asarray(process.end, jnp.float32)
            x = start(process, end, keys) if start else self.noise(process, keys)
            return ode.integrate(denoise, process, x, process.end, EARLIEST * process.end, **options)
        grid = self.grid(process)
        x = start(process, grid[0], keys) if start else self.noise(process, keys)
        return samplers.solve(
            samplers.make(self.solving.sampler.name, **options),
            denoise,
            process,
            x,
            grid,
            keys,
            between=between and between(process),
            progress=functools.partial(self.announce, len(grid) - 1) if self.solving.progress else None,
        )

    def noise(self, process: Process, keys: jax.Array) -> jax.Array:
        """Draws x [N, ...] at the end of the process, from one key per sample [N]."""
        return process.sigma(jnp.asarray(process.end, jnp.float32)) * normal(keys, self.shape, 'noise')

    def flow(self, variables: Variables, x: jax.Array, condition: Condition, forwards: bool = False) -> jax.Array:
        """Maps noise to data, or data to noise, along the probability-flow ODE by deterministic DDIM steps.

        Args:
            variables: network -> {collection: values}.
            x: noise, or data if `forwards`, [N, ...].
            condition: embedded condition, leaves [N, ...].
            forwards: whether to map data to noise.

        Returns:
            Data, or noise if `forwards`, [N, ...].
        """
        process, denoise = self.solver(variables, condition, clip=False)
        grid = self.grid(process)
        keys = jax.vmap(jax.random.key)(jnp.zeros(x.shape[0], jnp.uint32))  # unused: the steps are deterministic
        return samplers.solve(samplers.make('ddim'), denoise, process, x, grid[::-1] if forwards else grid, keys)

    def announce(self, steps: int, number: Any) -> None:
        """Prints the number of the completed solver step, of `steps`, on stderr."""
        end = '' if number < steps else '\n'
        print(f'\rsampling step {int(number)} of {steps}', end=end, file=sys.stderr, flush=True)


def shortened(process: Process, part: float) -> Process:
    """Returns a process that ends at a fraction `part` of its end, for a chain at the next of its times."""
    if not process.chain:
        return process._replace(end=process.end * part)
    steps = max(math.ceil(process.chain * part - 1e-3), 1)
    return process._replace(end=process.end * (steps / process.chain), chain=steps)
