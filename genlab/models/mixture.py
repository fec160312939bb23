"""Gaussian mixture models by EM: of points, of images, of their principal components, or of a tokenizer's codes.

A training step is an EM iteration, or a part of one. It sums the statistics of its batch, and every
`config.model.batches`-th step ends with an M step. Batches of any size that cover the training set once give the
iteration of the whole set. With `forgetting` the sums are a moving average over M steps: stepwise EM.

The parameters of all restarts are the network `mixture`, with a leading axis. The abilities use the best restart.

With `principal`, the mixture models the principal components. The rest of the variance is isotropic noise around their
span (Moghaddam and Pentland 1997, equation 8), so the density of images stays exact.

For the arguments that all families share, see `genlab.models`.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab import choices, data
from genlab.abilities import Batch, Variables
from genlab.classical import mixture
from genlab.classical.mixture import Mixture, Statistics, einsum
from genlab.conditioning import Condition
from genlab.data.source import Source, example_shape
from genlab.errors import ConfigError, choose, warn
from genlab.models import tokenizer as tokenizers
from genlab.models.tokenizer import Tokenizer
from genlab.noise import named_key
from genlab.training import state as states
from genlab.training.parallel import Placement, laid_out
from genlab.training.players import example_keys
from genlab.training.state import State

NETWORK = 'mixture'
STARTED_FROM = 2**27  # most numbers that starts and principal components are computed of: all of MNIST
BLOCK = 1024  # examples prepared at a time


class GaussianMixture(NamedTuple):
    """Holds the settings of `config.model`, see `settings`, and a description of the data that the mixture models."""

    components: int
    kind: str
    floor: float
    restarts: int
    batches: int
    forgetting: float
    principal: int
    shape: tuple[int, ...]  # shape of an example
    examples: int  # in the training set
    residual: bool  # whether samples have the noise around the principal components
    to_levels: float | None  # nats from a density to 8-bit levels; None: `nll` is of the data themselves
    points: bool
    tokenizer: Tokenizer | None
    axis: str | None

    @property
    def size(self) -> int:
        """The dimensions of the mixture."""
        return self.principal or math.prod(self.shape)


def settings(components: int, **changes: Any) -> dict[str, Any]:
    """Returns the entries of `config.model`, updated by `changes`.

    Args:
        components: number of Gaussians.
        changes: values other than these.
    """
    known = dict(
        components=components,
        covariance='full',  # a key of genlab.classical.mixture.KINDS: 'tied' is one for all, 'spherical' one variance
        floor=1e-6,  # added to every variance in an M step
        restarts=1,  # mixtures with different initialisations, trained together
        batches=1,  # per M step; the M step of the whole set needs batches that cover it once
        forgetting=0.0,  # exponent of stepwise EM, above 0.5 and at most 1; 0: each M step forgets the sums before
        principal=0,  # principal components that the mixture models; 0: it models the data themselves
        dimensions=0,  # number of coordinates of points; 0: images
        examples=0,  # in the training set; 0: measured
    )
    return choices.filled('config.model', known, changes)


def from_config(config: ConfigDict, axis: str | None = None, tokenizer: Tokenizer | None = None) -> GaussianMixture:
    """Makes the model of `config.model`, see `settings`. With a tokenizer it models the codes."""
    check(config)
    model = config.model
    shape = example_shape(config) if tokenizer is None else _shape_of(tokenizer)
    points = bool(model.dimensions) or tokenizer is not None
    to_levels = None if points else math.prod(shape) * math.log(128) if config.data.dequantise else 0.0
    if not 0 <= model.principal < math.prod(shape):
        raise ConfigError(
            f'config.model.principal={model.principal}: an example has {math.prod(shape)} values: choose fewer, or 0'
        )
    return GaussianMixture(
        model.components,
        model.covariance,
        model.floor,
        model.restarts,
        model.batches,
        model.forgetting,
        model.principal,
        shape,
        model.examples,
        config.sample.residual,
        to_levels,
        points,
        tokenizer,
        axis,
    )


def check(config: ConfigDict) -> None:
    """Raises ConfigError if a setting is out of its range, or has no effect on EM."""
    model = config.model
    choose(mixture.KINDS, model.covariance, 'config.model.covariance')
    for key in ('components', 'restarts', 'batches'):
        if model[key] < 1:
            raise ConfigError(f'config.model.{key}={model[key]}: give a whole number, at least 1')
    if not (model.forgetting == 0 or 0.5 < model.forgetting <= 1):
        raise ConfigError(f'config.model.forgetting={model.forgetting}: give 0, or a number above 0.5 and at most 1')
    if model.floor < 0:
        raise ConfigError(f'config.model.floor={model.floor}: give a variance, at least 0')
    if model.dtype != 'float32':
        raise ConfigError(f"config.model.dtype={model.dtype!r}: EM needs the digits of 'float32'")
    if config.losses or config.average:
        raise ConfigError('config.losses and config.average have no effect on EM: leave them empty')
    if config.train.microbatches != 1:
        raise ConfigError(
            'config.train.microbatches has no effect on EM: take more config.model.batches of a smaller size'
        )
    if config.data.binarise:
        raise ConfigError('config.data.binarise: a density of bits has no bound: turn it off, or dequantise')


def _shape_of(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Returns (D,), for the values of all grids of a tokenizer with continuous codes."""
    if any(jax.tree.leaves(tokenizer.entries)):
        raise ConfigError(
            'config.model.tokenizer: its codes are entries of a codebook: choose a run with continuous codes, such as '
            'one of configs/vae.py'
        )
    return (sum(math.prod(shape) for shape in tokenizers.levels(tokenizer.shapes).values()),)


# The state and the step.


def init(model: GaussianMixture, batch: Batch, key: jax.Array) -> State:
    """Makes mixtures around examples of a batch. `start` replaces them, where the whole training set is there."""
    x, restarts, size = flat(model, batch)[:, : model.size], model.restarts, model.size
    chosen = np.arange(restarts * model.components) % len(x)
    means = x[chosen] + x.std() * jax.random.normal(key, (len(chosen), size))
    begin = Mixture(
        jnp.full((restarts, model.components), 1 / model.components),
        means.reshape(restarts, model.components, size),
        jnp.stack([_variances(model, x.var() + model.floor)] * restarts),
    )
    kept: dict[str, Any] = {'sums': _zero(begin)._asdict(), 'score': jnp.zeros(restarts)}
    if model.principal:
        basis = jnp.eye(math.prod(model.shape), size)
        kept['projection'] = {'mean': jnp.zeros(math.prod(model.shape)), 'basis': basis, 'variance': jnp.ones(())}
    others = {} if model.tokenizer is None else model.tokenizer.networks(batch)
    made = states.create(states.initialize(others, key), {})
    return made.replace(params={**made.params, NETWORK: begin._asdict()}, stats={**made.stats, NETWORK: kept})


def _variances(model: GaussianMixture, variance: jax.Array) -> jax.Array:
    """Returns covariances of the model's kind with one variance in all directions."""
    one, eye = jnp.full(model.components, variance), jnp.eye(model.size)
    return {
        'full': one[:, None, None] * eye[None],
        'full_products': one[:, None, None] * eye[None],
        'tied': variance * eye,
        'diagonal': one[:, None] * jnp.ones((1, model.size)),
        'spherical': one,
    }[model.kind]


def _zero(mixtures: Mixture) -> Statistics:
    """Returns empty sums for mixtures with a leading axis of restarts."""
    counts, shift, scatter = (jnp.zeros_like(leaf) for leaf in mixtures)
    return Statistics(counts, shift, scatter, jnp.zeros(len(counts)))


def step(model: GaussianMixture, state: State, batches: Batch, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    """Adds the statistics of a batch, and does the M step that is due; see `genlab.experiment.Step`."""
    kept, number = state.stats[NETWORK], state.step // model.batches
    mixtures, sums = Mixture(**state.params[NETWORK]), Statistics(**kept['sums'])
    x = project(kept, flat(model, jax.tree.map(lambda leaf: leaf[0], batches)))
    new = jax.vmap(lambda one: mixture.statistics(one, x, model.kind))(mixtures)
    new = jax.lax.psum(new, model.axis) if model.axis else new
    sums = jax.tree.map(jnp.add, sums, new)

    def finish() -> tuple[Mixture, Statistics, jax.Array]:
        moved, score = jax.vmap(partial(_maximize, model, number))(mixtures, sums, kept['score'])
        return moved, jax.tree.map(jnp.zeros_like, sums), score

    if model.batches == 1:
        mixtures, sums, score = finish()
    else:
        due = (state.step + 1) % model.batches == 0
        mixtures, sums, score = jax.lax.cond(due, finish, lambda: (mixtures, sums, kept['score']))
    params = {**state.params, NETWORK: mixtures._asdict()}
    stats = {**state.stats, NETWORK: {**kept, 'sums': sums._asdict(), 'score': score}}
    return state.replace(step=state.step + 1, params=params, stats=stats), _metrics(model, mixtures, new)


def _maximize(
    model: GaussianMixture, number: jax.Array, one: Mixture, sums: Statistics, score: jax.Array
) -> tuple[Mixture, jax.Array]:
    """Does the M step `number` of one restart: (mixture, mean log-likelihood of the examples that it has seen)."""
    seen = mixture.mean(sums)
    if model.forgetting:
        old = mixture.implied(one, model.kind, model.floor, score)
        seen = mixture.blend(old, seen, mixture.rate(number, model.forgetting))
    return mixture.maximize(one, seen, model.kind, model.floor), seen.log_likelihood


def _metrics(model: GaussianMixture, mixtures: Mixture, new: Statistics) -> dict[str, jax.Array]:
    """Measures the best restart on the batch, before its M step. The criteria are for all training examples."""
    level = new.log_likelihood / new.counts.sum(1)
    best, free = level.argmax(), mixture.parameters(model.components, model.size, model.kind)
    total = level[best] * model.examples
    return {
        'mixture/log_likelihood': level[best],
        'mixture/log_likelihood_of_worst': level.min(),
        'mixture/smallest_weight': mixtures.weights[best].min(),
        'mixture/aic': mixture.aic(total, free),
        'mixture/bic': mixture.bic(total, free, model.examples),
    }


def start(model: GaussianMixture, config: ConfigDict, state: State, source: Source, placement: Placement) -> State:
    """Starts the mixtures by k-means++ on the whole training set; see `genlab.experiment.Start`.

    A set of more than STARTED_FROM numbers is represented by examples at equal distances.
    """
    covered = model.batches * config.data.batch_size
    if not model.forgetting and covered != len(source):
        warn(
            f'an M step sees {covered} of {len(source)} examples, so the likelihood may fall: make '
            'config.model.batches times config.data.batch_size their number, or set config.model.forgetting=0.7'
        )
    x = _whole(model, config, source)
    if model.components > len(x):
        raise ConfigError(f'config.model.components={model.components}: there are {len(x)} training examples')
    kept = dict(state.stats[NETWORK])
    if model.principal:
        kept['projection'] = _principal(x, model.principal)
        x = jax.jit(project)({'projection': kept['projection']}, x)
    keys = jax.random.split(named_key(jax.random.key(config.seed), 'start'), model.restarts)
    begin = jax.jit(
        lambda keys, x: jax.lax.map(lambda key: mixture.start(key, x, model.components, model.kind, model.floor), keys)
    )
    made = state.replace(
        params={**state.params, NETWORK: begin(keys, x)._asdict()}, stats={**state.stats, NETWORK: kept}
    )
    return _like(state, made)


def _like(state: State, made: State) -> State:
    """Returns the arrays of `made`, the same in every process, laid out as those of `state`."""

    def put(new: Any, old: jax.Array) -> jax.Array:
        return old if new is old else laid_out(np.asarray(new), old.sharding)

    return jax.tree.map(put, made, state)


def _whole(model: GaussianMixture, config: ConfigDict, source: Source) -> np.ndarray:
    """Returns the prepared training set, or examples of it at equal distances, float32 [N, D]."""
    count = min(len(source), STARTED_FROM // math.prod(model.shape))
    indices = np.arange(count) * len(source) // count
    prepare = jax.jit(data.prepare_batch(config.data, source, train=False))
    key, parts = named_key(jax.random.key(config.seed), 'prepare'), []
    for first in range(0, count, BLOCK):
        chosen = np.resize(indices[first : first + BLOCK], min(BLOCK, count))  # one shape is compiled
        batch = {**source.rows(chosen), 'position': chosen.astype(np.int32)}
        parts.append(np.asarray(flat(model, prepare(batch, example_keys(key, jnp.asarray(batch['position']))))))
    return np.concatenate(parts)[:count]


def _principal(x: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Returns the mean of examples [N, D], their first principal components [D, size], and the mean other variance."""
    centre = x.mean(0, dtype=np.float64)
    moments = np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), BLOCK):
        apart = x[first : first + BLOCK] - centre
        moments += apart.T @ apart
    variances, vectors = np.linalg.eigh(moments / len(x))  # ascending
    found = {'mean': centre, 'basis': vectors[:, ::-1][:, :size], 'variance': variances[:-size].mean()}
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


# Examples as vectors.


def flat(model: GaussianMixture, batch: Batch) -> jax.Array:
    """Returns the examples of a batch as vectors, float32 [B, D]."""
    x = batch['x'] if model.tokenizer is None else tokenizers.flat(model.tokenizer, _grids(model.tokenizer, batch))
    return jnp.asarray(x).reshape(len(x), -1)


def _grids(tokenizer: Tokenizer, batch: Batch) -> Mapping[str, jax.Array]:
    return tokenizers.levels(tokenizers.take(tokenizer, batch))


def project(kept: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Returns the values that the mixture models: the principal components [B, size] of examples x [B, D], or x."""
    if 'projection' not in kept:
        return x
    return einsum('nd,de->ne', x - kept['projection']['mean'][None], kept['projection']['basis'])


def lift(variables: Variables, z: jax.Array) -> jax.Array:
    """Returns the examples [B, D] in the span of the principal components with coordinates z [B, size]."""
    if 'projection' not in variables[NETWORK]:
        return z
    projection = variables[NETWORK]['projection']
    return einsum('ne,de->nd', z, projection['basis']) + projection['mean'][None]


def best(variables: Variables) -> Mixture:
    """Returns the restart whose log-likelihood was highest in the last M step."""
    chosen = variables[NETWORK]['score'].argmax()
    return jax.tree.map(lambda leaf: leaf[chosen], Mixture(**variables[NETWORK]['params']))


def in_full(model: GaussianMixture, variables: Variables) -> Mixture:
    """Returns the best mixture over the examples themselves, with full covariances [K, D, D]."""
    found = mixture.dense(best(variables), model.kind)
    if not model.principal:
        return found
    projection = variables[NETWORK]['projection']
    basis, variance = projection['basis'], projection['variance']
    inside = found.covariances - variance * jnp.eye(model.size)[None]
    covariances = einsum('de,kef,cf->kdc', basis, inside, basis) + variance * jnp.eye(len(basis))[None]
    return Mixture(found.weights, lift(variables, found.means), covariances)


# Abilities.


def log_likelihood(model: GaussianMixture, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Returns the exact log-density of examples, nats [B]."""
    x = flat(model, batch)
    z = project(variables[NETWORK], x)
    inside = mixture.log_density(best(variables), z, model.kind)
    if not model.principal:
        return inside
    variance, others = variables[NETWORK]['projection']['variance'], x.shape[1] - model.principal
    outside = jnp.square(x - lift(variables, z)).sum(1)
    return inside - (outside / variance + others * jnp.log(2 * jnp.pi * variance)) / 2


def encode(model: GaussianMixture, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes examples as responsibilities [B, K]."""
    return mixture.responsibilities(best(variables), project(variables[NETWORK], flat(model, batch)), model.kind)


def decode(model: GaussianMixture, variables: Variables, codes: jax.Array) -> jax.Array:
    """Decodes responsibilities [B, K] as the mean of the components' means, [B, ...]."""
    return lift(variables, einsum('nk,kd->nd', codes, best(variables).means)).reshape(len(codes), *model.shape)


def sample(model: GaussianMixture, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Draws one example per key [N]: [N, ...]. Codes are decoded."""
    del condition
    x = lift(variables, mixture.sample(best(variables), keys, model.kind))
    if model.principal and model.residual:
        x += _around(variables, keys, x.shape[1])
    if model.tokenizer is None:
        return x.reshape(len(x), *model.shape)
    return model.tokenizer.decode(variables, tokenizers.unflat(model.tokenizer, x))


def _around(variables: Variables, keys: jax.Array, size: int) -> jax.Array:
    """Draws the noise outside of the span of the principal components, [N, size]."""
    projection = variables[NETWORK]['projection']
    noise = jax.vmap(lambda key: jax.random.normal(named_key(key, 'residual'), (size,)))(keys)
    inside = einsum('nd,de,ce->nc', noise, projection['basis'], projection['basis'])
    return jnp.sqrt(projection['variance']) * (noise - inside)


def inpaint(
    model: GaussianMixture, variables: Variables, batch: Batch, mask: jax.Array, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Draws the values where the mask is 0 from their law given the others, in closed form: [B, ...].

    mask: [B, H, W, 1], or [B, D] for points.
    """
    del condition
    full, x = in_full(model, variables), flat(model, batch)
    known = jnp.broadcast_to(mask, (len(x), *model.shape)).reshape(x.shape) > 0
    drawn = jax.lax.map(lambda one: mixture.inpaint(full, *one), (keys, x, known))  # D x D matrices of one at a time
    return drawn.reshape(len(x), *model.shape)


def measure(model: GaussianMixture, variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
    """Measures `nll` of points, `nll_codes` of codes, or `nll_bound` of levels that are dequantised."""
    nats = -log_likelihood(model, variables, batch, keys)
    if model.tokenizer is not None:
        return {'nll_codes': nats}
    errors = jnp.square(decode(model, variables, encode(model, variables, batch)) - batch['x'])
    squared = errors.reshape(len(nats), -1).sum(1)
    if model.to_levels is None:
        return {'nll': nats, 'squared_error': squared}
    name = 'nll_bound' if model.to_levels else 'negative_log_density'
    return {name: nats + model.to_levels, 'squared_error': squared / 4}


def reconstruct(model: GaussianMixture, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Returns examples and the means of their components; see `genlab.abilities.Reconstruct`."""
    return {'input': batch['x'], 'output': decode(model, variables, encode(model, variables, batch))}
