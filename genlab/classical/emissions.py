"""Emissions of hidden Markov models: the distribution of an observation given the state.

An emission is a frozen dataclass of settings. Its parameters are a dictionary of arrays with a leading axis of states,
in the dtype of the observations (float32 or float64). `sums` returns sufficient statistics: sums over observations,
which add up over parts of a data set. `maximise` turns them into parameters (the M step).

Letters in shapes: N observations of D values, K states. Log-probabilities are in nats.
"""

import dataclasses
import math
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp, xlogy

from genlab.errors import choose

einsum = partial(jnp.einsum, precision='highest')  # accelerators round the factors of a product otherwise

Arrays = dict[str, jax.Array]


class Emission(Protocol):
    """What an emission of K states offers. `discrete`: whether it is a probability, and no density."""

    discrete: bool

    def initialise(self, key: jax.Array, x: jax.Array, weight: jax.Array) -> Arrays:
        """Returns random parameters that suit the observations x [N, D]. A weight [N] of 0 leaves one out."""

    def log_prob(self, parameters: Arrays, x: jax.Array) -> jax.Array:
        """Returns log p(x | state) of x [N, D] for every state: [N, K]."""

    def sums(self, parameters: Arrays, x: jax.Array, posterior: jax.Array) -> Arrays:
        """Returns statistics of x [N, D], weighted by the probabilities of the states, posterior [N, K]."""

    def maximise(self, parameters: Arrays, sums: Arrays) -> Arrays:
        """Returns the parameters of maximal expected likelihood. `parameters` are those that the sums were made with.

        A state without observations keeps its parameters.
        """

    def sample(self, parameters: Arrays, key: jax.Array, states: jax.Array) -> jax.Array:
        """Draws an observation per state: int [N] -> [N, D]."""

    def mean(self, parameters: Arrays) -> jax.Array:
        """Returns the expected observation of every state: [K, D]."""


@dataclasses.dataclass(frozen=True)
class Categorical:
    """D independent symbols 0 ... `symbols` - 1 per observation.

    `smoothing` is added to every count: the posterior mode under a Dirichlet prior. With 0 it is maximum likelihood.
    """

    states: int
    _: dataclasses.KW_ONLY
    symbols: int
    smoothing: float = 0.0
    discrete = True

    def initialise(self, key, x, weight):
        counts = self._counts(x, jnp.broadcast_to(weight[:, None], (len(x), self.states)))
        noise = jax.random.exponential(key, counts.shape, x.dtype)
        return {'probability': normalise((counts + 1) * (1 + noise))}

    def log_prob(self, parameters, x):
        places = jnp.arange(x.shape[1])[None]
        return jnp.log(parameters['probability'])[:, places, x.astype(jnp.int32)].sum(-1).T

    def sums(self, parameters, x, posterior):
        return {'count': self._counts(x, posterior)}

    def maximise(self, parameters, sums):
        count = sums['count'] + self.smoothing
        return {'probability': where_any(count.sum(-1), normalise(count), parameters['probability'])}

    def sample(self, parameters, key, states):
        probability = parameters['probability']
        return jax.random.categorical(key, jnp.log(probability)[states]).astype(probability.dtype)

    def mean(self, parameters):
        return parameters['probability'] @ jnp.arange(self.symbols, dtype=parameters['probability'].dtype)

    def _one_hot(self, x: jax.Array) -> jax.Array:
        return jax.nn.one_hot(x.astype(jnp.int32), self.symbols, dtype=x.dtype)

    def _counts(self, x: jax.Array, posterior: jax.Array) -> jax.Array:
        return einsum('nds,nk->kds', self._one_hot(x), posterior)


@dataclasses.dataclass(frozen=True)
class Poisson:
    """D independent counts per observation. `floor`: the least rate."""

    states: int
    _: dataclasses.KW_ONLY
    floor: float = 1e-3
    discrete = True

    def initialise(self, key, x, weight):
        mean = _mean(x, weight)
        return {'rate': jnp.maximum((spread(key, x, weight, self.states) + mean[None]) / 2, self.floor)}

    def log_prob(self, parameters, x):
        rate = parameters['rate']
        return xlogy(x[:, None], rate[None]).sum(-1) - rate.sum(-1)[None] - gammaln(x + 1).sum(-1)[:, None]

    def sums(self, parameters, x, posterior):
        return {'weight': posterior.sum(0), 'sum': einsum('nk,nd->kd', posterior, x)}

    def maximise(self, parameters, sums):
        rate = jnp.maximum(sums['sum'] / above_zero(sums['weight'])[:, None], self.floor)
        return {'rate': where_any(sums['weight'], rate, parameters['rate'])}

    def sample(self, parameters, key, states):
        rate = parameters['rate'][states]
        return jax.random.poisson(key, rate).astype(rate.dtype)

    def mean(self, parameters):
        return parameters['rate']


COVARIANCES = {'full': True, 'tied': True, 'diagonal': False, 'spherical': False}  # kind -> whether values correlate


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A Gaussian per state (Bishop 2006, equations 13.20 and 13.21).

    covariance: 'full'; 'tied', one full matrix for all states; 'diagonal'; or 'spherical', one variance per state.
    floor: the least variance in any direction. The M step is the maximum under this constraint, so that the likelihood
        never falls.
    """

    states: int
    _: dataclasses.KW_ONLY
    covariance: str = 'full'
    floor: float = 1e-3
    discrete = False

    def __post_init__(self):
        choose(COVARIANCES, self.covariance, 'covariance')

    def initialise(self, key, x, weight):
        mean = spread(key, x, weight, self.states)
        off = x - _mean(x, weight)[None]
        total = einsum('n,nd,ne->de', weight, off, off) / above_zero(weight.sum())
        shape = (self.states, *total.shape)
        return {
            'mean': mean,
            'covariance': self._constrained(jnp.broadcast_to(total, shape), jnp.ones(self.states, x.dtype)),
        }

    def log_prob(self, parameters, x):
        mean, centre = parameters['mean'], parameters['mean'].mean(0)  # near the data: less is lost to rounding
        # Whitened, the observations of a state have covariance 1: [N, D, K].
        if COVARIANCES[self.covariance]:
            factor = jnp.linalg.cholesky(self._of_states(parameters))
            whiten = jax.scipy.linalg.solve_triangular(
                factor, jnp.broadcast_to(jnp.eye(x.shape[1], dtype=x.dtype), factor.shape), lower=True
            )
            log_scale = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
            white = einsum('nd,ked->nek', x - centre[None], whiten)
            white -= einsum('kd,ked->ek', mean - centre[None], whiten)[None]
        else:
            deviation = jnp.sqrt(self._of_states(parameters))
            log_scale = jnp.log(deviation).sum(-1)
            white = (x[:, :, None] - mean.T[None]) / deviation.T[None]
        distance = jnp.square(white).sum(1)  # over the middle axis: on a CPU, sums over a short last axis are slow
        return -(distance + x.shape[1] * math.log(2 * math.pi)) / 2 - log_scale[None]

    def sums(self, parameters, x, posterior):
        # About the current means: moments about a distant point would cancel in float32.
        off = x[:, None] - parameters['mean'][None]
        weighted = posterior[..., None] * off
        second = 'nkd,nke->kde' if COVARIANCES[self.covariance] else 'nkd,nkd->kd'
        return {'weight': posterior.sum(0), 'first': weighted.sum(0), 'second': einsum(second, weighted, off)}

    def maximise(self, parameters, sums):
        weight = sums['weight']
        safe = above_zero(weight)
        shift = sums['first'] / safe[:, None]
        if COVARIANCES[self.covariance]:
            covariance = sums['second'] / safe[:, None, None] - shift[:, :, None] * shift[:, None]
        else:
            covariance = sums['second'] / safe[:, None] - jnp.square(shift)
        covariance = self._constrained(covariance, weight)
        kept = parameters['covariance']
        return {
            'mean': where_any(weight, parameters['mean'] + shift, parameters['mean']),
            'covariance': covariance if self.covariance == 'tied' else where_any(weight, covariance, kept),
        }

    def sample(self, parameters, key, states):
        mean = parameters['mean'][states]
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        if COVARIANCES[self.covariance]:
            factor = jnp.linalg.cholesky(self._of_states(parameters))
            return mean + einsum('nde,ne->nd', factor[states], noise)
        return mean + jnp.sqrt(self._of_states(parameters))[states] * noise

    def mean(self, parameters):
        return parameters['mean']

    def _of_states(self, parameters: Arrays) -> jax.Array:
        """Returns a covariance matrix [K, D, D] or variances [K, D] for every state."""
        covariance = parameters['covariance']
        states, size = parameters['mean'].shape
        if self.covariance == 'tied':
            return jnp.broadcast_to(covariance, (states, size, size))
        if self.covariance == 'spherical':
            return jnp.broadcast_to(covariance[:, None], (states, size))
        return covariance

    def _constrained(self, covariance: jax.Array, weight: jax.Array) -> jax.Array:
        """Returns covariances in the shape of their kind, with no variance below the floor.

        Args:
          covariance: covariance of every state, [K, D, D]; or variances [K, D].
          weight: weight of every state, [K].
        """
        if not COVARIANCES[self.covariance]:
            if covariance.ndim == 3:
                covariance = jnp.diagonal(covariance, axis1=1, axis2=2)
            return jnp.maximum(covariance if self.covariance == 'diagonal' else covariance.mean(-1), self.floor)
        if self.covariance == 'tied':
            covariance = einsum('k,kde->de', weight / above_zero(weight.sum()), covariance)
        # The maximum under a bound of all variances raises the eigenvalues that are below.
        values, vectors = jnp.linalg.eigh((covariance + covariance.swapaxes(-1, -2)) / 2)
        return einsum('...de,...e,...fe->...df', vectors, jnp.maximum(values, self.floor), vectors)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A mixture of `components` Gaussians per state; `covariance` and `floor` as for `Gaussian`."""

    states: int
    _: dataclasses.KW_ONLY
    components: int
    covariance: str = 'diagonal'
    floor: float = 1e-3
    discrete = False

    @property
    def parts(self) -> Gaussian:
        """Returns the emission of the K x `components` Gaussians, those of one state next to each other."""
        return Gaussian(self.states * self.components, covariance=self.covariance, floor=self.floor)

    def initialise(self, key, x, weight):
        share = jnp.full((self.states, self.components), 1 / self.components, x.dtype)
        return {'share': share, **self.parts.initialise(key, x, weight)}

    def log_prob(self, parameters, x):
        return logsumexp(self._joint(parameters, x), -1)

    def sums(self, parameters, x, posterior):
        of_part = posterior[..., None] * jax.nn.softmax(self._joint(parameters, x), -1)
        return self.parts.sums(parameters, x, of_part.reshape(len(x), -1))

    def maximise(self, parameters, sums):
        weight = sums['weight'].reshape(self.states, self.components)
        share = where_any(weight.sum(-1), normalise(weight), parameters['share'])
        return {'share': share, **self.parts.maximise(parameters, sums)}

    def sample(self, parameters, key, states):
        key, own = jax.random.split(key)
        part = jax.random.categorical(own, jnp.log(parameters['share'])[states])
        return self.parts.sample(parameters, key, states * self.components + part)

    def mean(self, parameters):
        parts = parameters['mean'].reshape(self.states, self.components, -1)
        return einsum('kc,kcd->kd', parameters['share'], parts)

    def _joint(self, parameters: Arrays, x: jax.Array) -> jax.Array:
        """Returns log p(component, x | state): [N, K, components]."""
        parts = self.parts.log_prob(parameters, x).reshape(-1, self.states, self.components)
        return parts + jnp.log(parameters['share'])[None]


EMISSIONS = {'categorical': Categorical, 'poisson': Poisson, 'gaussian': Gaussian, 'mixture': Mixture}


def spread(key: jax.Array, x: jax.Array, weight: jax.Array, count: int) -> jax.Array:
    """Chooses observations far from each other: k-means++ (Arthur and Vassilvitskii 2007), values scaled to variance 1.

    Args:
      key: key of the choices.
      x: observations [N, D].
      weight: [N], 0 for those that must not be chosen.
      count: number of observations to choose.

    Returns:
      [count, D].
    """
    off = x - _mean(x, weight)[None]
    scaled = off / jnp.sqrt(above_zero(_mean(jnp.square(off), weight)))[None]

    def choose_next(number: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, distance = state
        place = jax.random.categorical(jax.random.fold_in(key, number), jnp.log(weight * distance))
        nearer = jnp.square(scaled - scaled[place][None]).sum(-1)
        return chosen.at[number].set(x[place]), jnp.where(number == 0, nearer, jnp.minimum(distance, nearer))

    start = jnp.zeros((count, x.shape[1]), x.dtype), jnp.ones(len(x), x.dtype)
    return jax.lax.fori_loop(0, count, choose_next, start)[0]


def _mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    return einsum('n,nd->d', weight, x) / above_zero(weight.sum())


def above_zero(value: jax.Array) -> jax.Array:
    return jnp.maximum(value, jnp.finfo(value.dtype).tiny)


def normalise(value: jax.Array) -> jax.Array:
    """Divides by the sum over the last axis."""
    return value / above_zero(value.sum(-1, keepdims=True))


def where_any(weight: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Returns `new` where a weight is above 0, else `old`. Axes that the weight lacks come last."""
    seen = weight > 10 * jnp.finfo(weight.dtype).tiny
    return jnp.where(seen.reshape(*weight.shape, *[1] * (new.ndim - weight.ndim)), new, old)
