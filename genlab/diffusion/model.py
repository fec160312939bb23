"""A denoising network together with its process, as a config describes them: what every experiment of diffusion builds on."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.diffusion import augmentation, guidance, ode, predictions, processes, samplers, times
from genlab.diffusion.predictions import Denoiser, Estimate
from genlab.diffusion.processes import Process, like
from genlab.errors import ConfigError, choose
from genlab.networks.diffusion.dit import DiT
from genlab.networks.diffusion.points import PointNetwork
from genlab.networks.diffusion.unet import UNet
from genlab.networks.diffusion.vdm import MonotoneSchedule, VariationalUNet
from genlab.noise import normal, stream, uniform
from genlab.training.state import Network

NETWORKS = {'unet': UNet, 'transformer': DiT, 'variational': VariationalUNet, 'points': PointNetwork}
TIMES = {'time': 1000.0, 'unit_time': 1.0}  # of the end, as a network sees it; 1 where time is differentiated
# What a network sees of a time t [B]: that, or log(sigma / alpha) / 4 (Karras et al. 2022, table 1), or from 0 to 1000 between
# a log-SNR of 13.3 and one of -5 (Kingma et al. 2021, appendix B.3).
LEVELS = {
    **{name: lambda process, t, scale=scale: scale * t / process.end for name, scale in TIMES.items()},
    'log_sigma': lambda process, t: -processes.log_snr(process, t) / 8,
    'log_snr': lambda process, t: 1000 * (13.3 - processes.log_snr(process, t)) / 18.3,
}
EARLIEST = 1e-5  # of the end: the first time at which a network is asked about data without noise

Condition = Mapping[str, jax.Array]  # what the network is called with beside x and its level: labels, context, ...


class Model:
    """The functions of a diffusion model, of `config.model` and `config.sample` (genlab.diffusion.settings).

    shape: of one example of x. Variables hold 'denoiser', and 'schedule' where the process is learned."""

    def __init__(self, config: ConfigDict, shape: tuple[int, ...]):
        self.settings, self.solving, self.shape = config.model, config.sample, shape
        self.batch_size, self.seed = config.data.batch_size, config.seed
        choose(predictions.PREDICTIONS, self.settings.prediction, 'config.model.prediction')
        self.level = choose(LEVELS, self.settings.level, 'config.model.level')
        self.quantile = choices.build(times.QUANTILES, self.settings.times, 'config.model.times')
        self.network = self._network(jnp.dtype(self.settings.dtype))
        self.learned = self.settings.process.name == 'learned'
        if self.learned:
            self.schedule = choices.build({'learned': MonotoneSchedule}, self.settings.process, 'config.model.process')
        else:
            self.fixed = choices.build(processes.PROCESSES, self.settings.process, 'config.model.process')

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
                f'config.model.augmentation={self.settings.augmentation}: the network must be conditioned on it: set it '
                f'to 0, or config.model.network.augmentation={augmentation.NUMBERS} of a unet'
            )
        return network

    def networks(self, x: jax.Array, condition: Condition) -> dict[str, Network]:
        """What to initialise, for x [B, ...] and a condition of the same batch."""
        level, order = jnp.zeros(x.shape[0]), ('labels', 'keys', 'span', 'context', 'context_mask')
        inputs = [condition.get(name) for name in order]
        while inputs and inputs[-1] is None:
            inputs.pop()
        found = {'denoiser': Network(self.network, (x, level, False, *inputs))}
        return {**found, 'schedule': Network(self.schedule, (level,))} if self.learned else found

    def process(self, variables) -> Process:
        if not self.learned:
            return self.fixed
        return processes.from_gamma(lambda t: self.schedule.apply(variables['schedule'], t))

    def draw_times(self, process: Process, position: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        """The times [B] of a training step, of the examples at `position` [B] of the global batch."""
        return self.quantile(process, self.draw_uniform(position, keys, step))

    def draw_uniform(self, position: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        """u [B] in [0, 1), of which the times are quantiles."""
        if self.settings.stratified:
            return times.stratified(jax.random.fold_in(jax.random.key(self.seed), step), position, self.batch_size)
        return uniform(keys, (), 'time')

    def drop(self, condition: Condition, keys: jax.Array) -> Condition:
        """Replaces the condition of some examples by the null condition, so that the network learns both."""
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, self.settings.drop_condition))(stream(keys, 'drop'))
        none = self.without(condition)
        return {name: jnp.where(like(dropped, value), none[name], value) for name, value in condition.items()}

    def without(self, condition: Condition) -> Condition:
        """No class, and of the words only the first, which is the start of every text."""
        none = dict(condition)
        if 'labels' in none:
            none['labels'] = jnp.full_like(none['labels'], self.settings.classes)
        if 'context_mask' in none:
            none['context_mask'] = jnp.zeros_like(none['context_mask']).at[:, 0].set(True)
        return none

    def augment(self, x: jax.Array, keys: jax.Array) -> tuple[jax.Array, Condition]:
        """Augments data [B, ...] for training. Returns them and the condition that says how."""
        if not self.settings.augmentation:
            return x, {}
        own = stream(keys, 'augmentation')
        moved, numbers = augmentation.augment(x, own, self.settings.augmentation)
        return moved, {'augmentation': numbers}

    def predict(
        self,
        variables,
        process: Process,
        x: jax.Array,
        t: jax.Array,
        condition: Condition,
        train: bool = False,
        keys: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """(what the network predicts [B, ...], the fraction of the log-variance if it is learned) at x_t = x and t [B]."""
        alpha, sigma = process.alpha(t), process.sigma(t)
        seen = x
        if self.settings.deviation:
            seen = like(jax.lax.rsqrt(jnp.square(alpha * self.settings.deviation) + jnp.square(sigma)), x) * x
        output = self.network.apply(variables['denoiser'], seen, self.level(process, t), train, keys=keys, **condition)
        if not self.settings.learned_variance:
            return output, None
        prediction, raw = jnp.split(output, 2, -1)
        return prediction, (raw + 1) / 2  # it starts in the middle (Nichol & Dhariwal 2021, section 3.1)

    def estimate(
        self, process: Process, prediction: jax.Array, fraction: jax.Array | None, x: jax.Array, t: jax.Array
    ) -> Estimate:
        """x_0 and epsilon, of what `predict` gave."""
        deviation = self.settings.deviation or 1.0
        return predictions.estimate(self.settings.prediction, process, prediction, x, t, deviation)._replace(
            fraction=fraction
        )

    def denoiser(self, variables, condition: Condition) -> Denoiser:
        """The network, guided as the config says, but neither clipped nor converted."""
        process = self.process(variables)

        def conditioned(condition):
            def denoise(x, t):
                t = jnp.broadcast_to(jnp.maximum(t, EARLIEST * process.end), x.shape[:1])
                return self.estimate(process, *self.predict(variables, process, x, t, condition), x, t)

            return denoise

        interval = self.solving.guidance_from, self.solving.guidance_to
        return guidance.guided(
            conditioned(condition), conditioned(self.without(condition)), process, self.solving.guidance, interval
        )

    def solver(self, variables, condition: Condition, clip: bool) -> tuple[Process, Denoiser]:
        """The process in whose coordinates to solve, and a Denoiser of it."""
        own, denoise = self.process(variables), self.denoiser(variables, condition)
        denoise = guidance.clipped(denoise, own) if clip else denoise
        if not self.solving.process:
            return own, denoise
        other = processes.PROCESSES[self.solving.process]()
        return other, guidance.converted(denoise, own, other)

    def grid(self, process: Process) -> jax.Array:
        """The times [steps + 1] that the solver visits; of a chain, only those that it has."""
        grid = choices.bind(times.GRIDS, self.solving.grid, 'config.sample.grid')(process, self.solving.steps)
        steps = self.settings.times.steps if self.settings.times.name == 'discrete' and not self.solving.process else 0
        return jnp.ceil(grid * steps - 1e-3) / steps if steps else grid

    def generate(
        self,
        variables,
        keys: jax.Array,
        condition: Condition,
        *,
        start: Callable | None = None,
        part: float = 1.0,
        between: Callable | None = None,
    ) -> jax.Array:
        """Data [N, ...] of noise, one key each: the reverse process by the sampler of the config.

        start: (process, keys) -> x at `part` of the end, pure noise unless given. between: (process) -> as for `solve`."""
        process, denoise = self.solver(variables, condition, clip=self.solving.clip and len(self.shape) == 3)
        process = process._replace(end=process.end * part)
        x = start(process, keys) if start else self.noise(process, keys)
        options = choices.options(self.solving.sampler)
        if self.solving.sampler.name == 'ode':
            return ode.integrate(denoise, process, x, process.end, EARLIEST * process.end, **options)
        return samplers.solve(
            samplers.make(self.solving.sampler.name, **options),
            denoise,
            process,
            x,
            self.grid(process),
            keys,
            between=between and between(process),
            progress=self.announce if self.solving.progress else None,
        )

    def noise(self, process: Process, keys: jax.Array) -> jax.Array:
        """x [N, ...] at the end of the process."""
        return process.sigma(jnp.asarray(process.end, jnp.float32)) * normal(keys, self.shape, 'noise')

    def flow(self, variables, x: jax.Array, condition: Condition, forwards: bool = False) -> jax.Array:
        """Noise to data without chance, or data to noise, by DDIM's steps: [N, ...]."""
        process, denoise = self.solver(variables, condition, clip=False)
        grid = self.grid(process)
        keys = jax.vmap(jax.random.key)(jnp.zeros(x.shape[0], jnp.uint32))  # that nothing is drawn from
        return samplers.solve(samplers.make('ddim'), denoise, process, x, grid[::-1] if forwards else grid, keys)

    def announce(self, number: Any) -> None:
        """Says on stderr which step of the solver is done."""
        print(
            f'\rsampling step {int(number)} of {self.solving.steps}',
            end='' if number < self.solving.steps else '\n',
            file=sys.stderr,
            flush=True,
        )
