"""Gaussian mixture models: expectation maximisation, likelihood, sampling and conditioning in closed form.

p(x) = sum_k w_k N(x; mu_k, S_k) (Bishop 2006, section 9.2). All functions are pure, work in the dtype of their inputs
(float32 or float64), and are for one mixture: `jax.vmap` over a leading axis of a `Mixture` gives restarts.

    mixture = start(key, x, components=3, kind='full', floor=1e-6)
    mixture, log_likelihood = iterate(mixture, x, 'full', 1e-6)      # one EM iteration

An E step returns sums over examples (`Statistics`), and sums of parts of a data set add up. So minibatches and devices
give the iteration of the whole set. The sums are about the current means, not about 0: second moments about a distant
point would cancel in float32.

Letters in shapes: N examples of D dimensions, K components. Likelihoods are in nats.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jax.scipy.special import logsumexp

einsum = partial(jnp.einsum, precision='highest')  # accelerators round the factors of a product otherwise


class Mixture(NamedTuple):
    """The parameters of a mixture. The kind of its covariances is an argument of the functions."""

    weights: jax.Array  # [K], positive, sum 1
    means: jax.Array  # [K, D]
    covariances: jax.Array  # full: [K, D, D]; tied: [D, D]; diagonal: variances [K, D]; spherical: variances [K]


class Statistics(NamedTuple):
    """Sums over examples, weighted by responsibilities r: the sufficient statistics, about the current means mu."""

    counts: jax.Array  # [K], sum r
    shift: jax.Array  # [K, D], sum r (x - mu)
    scatter: jax.Array  # in the shape of `Mixture.covariances`, sum r (x - mu) (x - mu)^T; spherical: of squared norms
    log_likelihood: jax.Array  # [], sum log p(x)


# Likelihood and the E step.


def log_joint(mixture: Mixture, x: jax.Array, kind: str) -> jax.Array:
    """Returns log w_k + log N(x; mu_k, S_k) for examples x [N, D]: [N, K]."""
    distances, log_determinants = KINDS[kind].distances(mixture, x)
    constant = x.shape[1] * math.log(2 * math.pi)
    return (_log(mixture.weights) - (log_determinants + constant) / 2)[None] - distances / 2


def log_density(mixture: Mixture, x: jax.Array, kind: str) -> jax.Array:
    """Returns log p(x) for examples x [N, D]: nats [N]."""
    return logsumexp(log_joint(mixture, x, kind), axis=1)


def responsibilities(mixture: Mixture, x: jax.Array, kind: str) -> jax.Array:
    """Returns p(k | x) for examples x [N, D]: [N, K]."""
    return jax.nn.softmax(log_joint(mixture, x, kind), axis=1)


def statistics(mixture: Mixture, x: jax.Array, kind: str) -> Statistics:
    """Does the E step (Bishop 2006, equation 9.23) on examples x [N, D], and sums over them."""
    joint = log_joint(mixture, x, kind)
    log_densities = logsumexp(joint, axis=1)
    return _sums(mixture, x, jnp.exp(joint - log_densities[:, None]), kind, log_densities.sum())


def _sums(mixture: Mixture, x: jax.Array, weights: jax.Array, kind: str, log_likelihood: jax.Array) -> Statistics:
    """Returns the sums about the means of the mixture, for responsibilities `weights` [N, K]."""
    count, centre = weights.sum(0), _centre(mixture)
    shift = einsum('nk,nd->kd', weights, x - centre) - count[:, None] * (mixture.means - centre)
    return Statistics(count, shift, KINDS[kind].scatter(x, mixture.means, weights), log_likelihood)


# The M step.


def maximize(mixture: Mixture, sums: Statistics, kind: str, floor: float) -> Mixture:
    """Does the M step (Bishop 2006, equations 9.24 to 9.26).

    Args:
      mixture: about whose means the sums are.
      sums: over all examples, or their mean.
      kind: kind of the covariances.
      floor: is added to every variance, so that no component collapses on one point.
    """
    count = sums.counts + 10 * jnp.finfo(sums.counts.dtype).eps * sums.counts.mean()  # of an empty component too
    move = sums.shift / count[:, None]
    covariances = KINDS[kind].covariances(sums.scatter, count, move, floor)
    return Mixture(count / count.sum(), mixture.means + move, covariances)


def iterate(mixture: Mixture, x: jax.Array, kind: str, floor: float) -> tuple[Mixture, jax.Array]:
    """Does one EM iteration on the examples x [N, D]: (the next mixture, the mean log-likelihood of the given one)."""
    sums = statistics(mixture, x, kind)
    return maximize(mixture, sums, kind, floor), sums.log_likelihood / len(x)


# Stepwise EM: the sums are a moving average over minibatches (Cappe and Moulines 2009, equation 13).


def implied(mixture: Mixture, kind: str, floor: float, log_likelihood: jax.Array) -> Statistics:
    """Returns the mean sums whose M step is the mixture itself: the memory of stepwise EM needs no state of its own.

    Args:
      mixture: the result of an M step with the same floor.
      kind: kind of the covariances.
      floor: floor of that M step.
      log_likelihood: the moving average of the log-likelihood, [].
    """
    scatter = KINDS[kind].implied(mixture, floor)
    return Statistics(mixture.weights, jnp.zeros_like(mixture.means), scatter, log_likelihood)


def mean(sums: Statistics) -> Statistics:
    """Returns the sums per example."""
    return jax.tree.map(lambda leaf: leaf / sums.counts.sum(), sums)


def blend(old: Statistics, new: Statistics, rate: jax.Array) -> Statistics:
    """Returns old + rate (new - old). Both are per example and about the same means."""
    return jax.tree.map(lambda one, other: one + rate * (other - one), old, new)


def rate(number: jax.Array, forgetting: float) -> jax.Array:
    """Returns the rate of the M step `number` = 0, 1, ...: (number + 2)^-forgetting (Liang and Klein 2009, section 3).

    It converges for exponents above 0.5 and at most 1. The exponent 0 is EM without memory.
    """
    return (number + 2.0) ** -forgetting


# The kinds of covariances.


class Kind(NamedTuple):
    """The functions that depend on the kind of covariances."""

    distances: Callable  # (mixture, x) -> squared Mahalanobis distances [N, K], log determinants [K] or []
    scatter: Callable  # (x, means, weights [N, K]) -> second moments about the means
    covariances: Callable  # (scatter, count [K], move [K, D], floor) -> covariances about the means + move
    implied: Callable  # (mixture, floor) -> the scatter per example whose M step is the mixture
    dense: Callable  # (covariances, K, D) -> [K, D, D]
    parameters: Callable  # (K, D) -> free numbers in the covariances


def _full_distances(mixture: Mixture, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    factor, centre = jnp.linalg.cholesky(mixture.covariances), _centre(mixture)
    identity = jnp.broadcast_to(jnp.eye(x.shape[1], dtype=x.dtype), factor.shape)
    whitening = solve_triangular(factor, identity, lower=True)  # L^-1: white = L^-1 (x - mu), one product for all k
    means = einsum('kd,ked->ke', mixture.means - centre, whitening)
    white = einsum('nd,ked->nke', x - centre, whitening) - means[None]
    return jnp.square(white).sum(2), _log_determinant(factor)


def _products(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the mean of examples, their difference from it, and its products of pairs, D (D + 1) / 2.

    None depends on a mixture, so all restarts share them. The barriers keep XLA from computing the pairs again for each
    use. axis: of the values: 1 for examples [N, D], 0 for [D, N]. Each matrix product is fast along one axis alone.
    """
    centre = x.mean(1 - axis, keepdims=True)
    apart = jax.lax.optimization_barrier(x - centre)
    one, other = (jnp.take(apart, places, axis) for places in np.tril_indices(x.shape[axis]))
    return centre, apart, jax.lax.optimization_barrier(one * other)


def _product_distances(mixture: Mixture, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Expands the square (x - mu)^T P (x - mu): half the arithmetic, since P is symmetric."""
    factor, (centre, apart, products) = jnp.linalg.cholesky(mixture.covariances), _products(x, 1)
    identity = jnp.broadcast_to(jnp.eye(x.shape[1], dtype=x.dtype), factor.shape)
    precisions = jax.vmap(lambda one, eye: cho_solve((one, True), eye))(factor, identity)
    first, second = np.tril_indices(x.shape[1])
    quadratic = precisions[:, first, second] * jnp.asarray(2 - (first == second), x.dtype)[None]
    means = mixture.means - centre
    linear = einsum('kde,ke->kd', precisions, means)
    distances = einsum('np,kp->nk', products, quadratic) - 2 * einsum('nd,kd->nk', apart, linear)
    return jnp.maximum(distances + (means * linear).sum(1)[None], 0), _log_determinant(factor)


def _product_scatter(x: jax.Array, means: jax.Array, weights: jax.Array) -> jax.Array:
    """Sums products about the mean of the examples, and moves the sums to the means of the mixture."""
    centre, apart, products = _products(x.T, 0)
    first, second = np.tril_indices(x.shape[1])
    place = np.zeros((x.shape[1], x.shape[1]), np.int32)
    place[first, second] = place[second, first] = np.arange(len(first))
    sums, shift = einsum('nk,pn->kp', weights, products)[:, place], einsum('nk,dn->kd', weights, apart)
    move = means - centre.T
    across = shift[:, :, None] * move[:, None]
    return sums - across - across.mT + weights.sum(0)[:, None, None] * move[:, :, None] * move[:, None]


def _tied_distances(mixture: Mixture, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    factor, centre = jnp.linalg.cholesky(mixture.covariances), _centre(mixture)
    white, means = (solve_triangular(factor, (rows - centre).T, lower=True).T for rows in (x, mixture.means))
    return jnp.square(white[:, None] - means[None]).sum(2), _log_determinant(factor)


def _diagonal_distances(mixture: Mixture, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    precisions = 1 / mixture.covariances
    distances = (jnp.square(x[:, None] - mixture.means[None]) * precisions[None]).sum(2)
    return distances, jnp.log(mixture.covariances).sum(1)


def _spherical_distances(mixture: Mixture, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    distances = jnp.square(x[:, None] - mixture.means[None]).sum(2) / mixture.covariances[None]
    return distances, x.shape[1] * jnp.log(mixture.covariances)


def _root(x: jax.Array, means: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns sqrt(r) (x - mu), [K, N, D]: its product with itself is symmetric and has no negative eigenvalue."""
    return jnp.sqrt(weights.T)[:, :, None] * (x[None] - means[:, None])


def _full_scatter(x: jax.Array, means: jax.Array, weights: jax.Array) -> jax.Array:
    root = _root(x, means, weights)
    return einsum('knd,kne->kde', root, root)


def _tied_scatter(x: jax.Array, means: jax.Array, weights: jax.Array) -> jax.Array:
    root = _root(x, means, weights)
    return einsum('knd,kne->de', root, root)


def _diagonal_scatter(x: jax.Array, means: jax.Array, weights: jax.Array) -> jax.Array:
    return (weights[:, :, None] * jnp.square(x[:, None] - means[None])).sum(0)


def _spherical_scatter(x: jax.Array, means: jax.Array, weights: jax.Array) -> jax.Array:
    return (weights * jnp.square(x[:, None] - means[None]).sum(2)).sum(0)


def _full_covariances(scatter: jax.Array, count: jax.Array, move: jax.Array, floor: float) -> jax.Array:
    moved = move[:, :, None] * move[:, None, :]
    return scatter / count[:, None, None] - moved + floor * jnp.eye(move.shape[1], dtype=move.dtype)[None]


def _tied_covariances(scatter: jax.Array, count: jax.Array, move: jax.Array, floor: float) -> jax.Array:
    moved = einsum('k,kd,ke->de', count, move, move)
    return (scatter - moved) / count.sum() + floor * jnp.eye(move.shape[1], dtype=move.dtype)


def _diagonal_covariances(scatter: jax.Array, count: jax.Array, move: jax.Array, floor: float) -> jax.Array:
    return scatter / count[:, None] - jnp.square(move) + floor


def _spherical_covariances(scatter: jax.Array, count: jax.Array, move: jax.Array, floor: float) -> jax.Array:
    return (scatter / count - jnp.square(move).sum(1)) / move.shape[1] + floor


def _identity_like(mixture: Mixture) -> jax.Array:
    """Returns the identity [1, D, D]."""
    return jnp.eye(mixture.means.shape[1], dtype=mixture.means.dtype)[None]


FULL = Kind(
    _full_distances,
    _full_scatter,
    _full_covariances,
    lambda mixture, floor: mixture.weights[:, None, None] * (mixture.covariances - floor * _identity_like(mixture)),
    lambda covariances, K, D: covariances,
    lambda K, D: K * D * (D + 1) // 2,
)
KINDS = {
    'full': FULL,
    # The same by products of pairs: faster, for float64. In float32 it loses a component whose standard deviation in
    # some direction is below a hundredth of the data's.
    'full_products': FULL._replace(distances=_product_distances, scatter=_product_scatter),
    'tied': Kind(
        _tied_distances,
        _tied_scatter,
        _tied_covariances,
        lambda mixture, floor: mixture.covariances - floor * _identity_like(mixture)[0],
        lambda covariances, K, D: jnp.broadcast_to(covariances, (K, D, D)),
        lambda K, D: D * (D + 1) // 2,
    ),
    'diagonal': Kind(
        _diagonal_distances,
        _diagonal_scatter,
        _diagonal_covariances,
        lambda mixture, floor: mixture.weights[:, None] * (mixture.covariances - floor),
        lambda covariances, K, D: covariances[:, :, None] * jnp.eye(D, dtype=covariances.dtype)[None],
        lambda K, D: K * D,
    ),
    'spherical': Kind(
        _spherical_distances,
        _spherical_scatter,
        _spherical_covariances,
        lambda mixture, floor: mixture.weights * (mixture.covariances - floor) * mixture.means.shape[1],
        lambda covariances, K, D: covariances[:, None, None] * jnp.eye(D, dtype=covariances.dtype)[None],
        lambda K, D: K,
    ),
}


def dense(mixture: Mixture, kind: str) -> Mixture:
    """Returns the same mixture with full covariances."""
    return mixture._replace(covariances=KINDS[kind].dense(mixture.covariances, *mixture.means.shape))


# Starts.


def plus_plus(key: jax.Array, x: jax.Array, components: int) -> jax.Array:
    """Chooses starting centres among the examples by greedy k-means++ (Arthur and Vassilvitskii 2007, section 6).

    Each next centre is the best of 2 + log K candidates. A candidate is drawn with a probability proportional to its
    squared distance from the centres so far.

    Args:
      key: key of the draws.
      x: examples [N, D].
      components: K.

    Returns:
      Centres [K, D].
    """
    first, key = jax.random.split(key)
    candidates = 2 + int(math.log(components))

    def from_point(point: jax.Array) -> jax.Array:
        return jnp.square(x - point[None]).sum(1)

    def add(nearest: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = jax.random.categorical(key, _log(nearest), shape=(candidates,))
        distances = jnp.minimum(nearest[None], jax.vmap(from_point)(x[drawn]))
        best = jnp.argmin(distances.sum(1))
        return distances[best], x[drawn[best]]

    centre = x[jax.random.randint(first, (), 0, len(x))]
    _, others = jax.lax.scan(add, from_point(centre), jax.random.split(key, components - 1))
    return jnp.concatenate([centre[None], others])


def start(key: jax.Array, x: jax.Array, components: int, kind: str, floor: float) -> Mixture:
    """Starts a mixture: k-means++ centres, the shares and means of their clusters, and the pooled covariance.

    Every component starts with the covariance within all clusters. The covariance of a small cluster would be singular.

    Args:
      key: key of the centres.
      x: examples [N, D].
      components: K.
      kind: kind of the covariances.
      floor: floor of the M step.
    """
    centres = plus_plus(key, x, components)
    distances = jax.lax.map(lambda centre: jnp.square(x - centre[None]).sum(1), centres)
    nearest = jax.nn.one_hot(distances.argmin(0), components, dtype=x.dtype)
    count = nearest.sum(0)
    means = einsum('nk,nd->kd', nearest, x) / jnp.maximum(count, 1)[:, None]
    apart = x - einsum('nk,kd->nd', nearest, means)  # from the mean of the own cluster
    pooled = einsum('nd,ne->de', apart, apart) / len(x) + floor * jnp.eye(x.shape[1], dtype=x.dtype)
    variances = jnp.diag(pooled)
    covariances = {
        'full': jnp.broadcast_to(pooled, (components, *pooled.shape)),
        'full_products': jnp.broadcast_to(pooled, (components, *pooled.shape)),
        'tied': pooled,
        'diagonal': jnp.broadcast_to(variances, means.shape),
        'spherical': jnp.broadcast_to(variances.mean(), components),
    }[kind]
    return Mixture(count / len(x), means, covariances)


# Choice of a model.


def parameters(components: int, dimensions: int, kind: str) -> int:
    """Returns the number of free parameters: weights, means and covariances."""
    return components - 1 + components * dimensions + KINDS[kind].parameters(components, dimensions)


def aic(log_likelihood: jax.Array, free: int) -> jax.Array:
    """Returns Akaike's criterion 2 p - 2 log L of a data set with `free` = p parameters; less is better."""
    return 2 * free - 2 * log_likelihood


def bic(log_likelihood: jax.Array, free: int, examples: float) -> jax.Array:
    """Returns the Bayesian criterion p log N - 2 log L (Schwarz 1978) of N `examples`; less is better."""
    return free * math.log(examples) - 2 * log_likelihood


# Sampling and conditioning.


def sample(mixture: Mixture, keys: jax.Array, kind: str) -> jax.Array:
    """Draws one example per key [N]: [N, D]."""
    full = dense(mixture, kind)
    factors = jnp.linalg.cholesky(full.covariances)

    def one(key: jax.Array) -> jax.Array:
        choice, noise = jax.random.split(key)
        k = jax.random.categorical(choice, _log(full.weights))
        normal = jax.random.normal(noise, full.means.shape[1:], full.means.dtype)
        return full.means[k] + einsum('de,e->d', factors[k], normal)

    return jax.vmap(one)(keys)


def condition(mixture: Mixture, x: jax.Array, known: jax.Array) -> Mixture:
    """Returns p(unknown | known), a mixture again (Bishop 2006, equations 2.81 and 2.82, for each component).

    Args:
      mixture: with full covariances; see `dense`.
      x: one example [D], of which only the known entries count.
      known: bool [D].

    Returns:
      A mixture over all D entries. At known entries its means are x and its covariances 0.
    """

    def one(mean: jax.Array, covariance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        factor = _factor_of_known(covariance, known)
        log_evidence, explained = _explained(factor, mean, covariance, x, known)
        across = solve_triangular(factor, jnp.where(known[:, None], covariance, 0), lower=True)
        left = covariance - einsum('cd,ce->de', across, across)
        unknown = ~known[:, None] & ~known[None]
        return log_evidence, jnp.where(known, x, mean + explained), jnp.where(unknown, left, 0)

    log_evidence, means, covariances = jax.vmap(one)(mixture.means, mixture.covariances)
    return Mixture(jax.nn.softmax(_log(mixture.weights) + log_evidence), means, covariances)


def inpaint(mixture: Mixture, key: jax.Array, x: jax.Array, known: jax.Array) -> jax.Array:
    """Draws the unknown entries given the known ones: a draw of `condition`, without its covariances.

    A joint draw z of the chosen component is corrected: z + C_uo C_oo^-1 (x_o - z_o) is a conditional draw.

    Args:
      mixture: with full covariances.
      key: key of the draw.
      x: one example [D].
      known: bool [D].

    Returns:
      The completed example [D].
    """
    choice, noise = jax.random.split(key)
    factors = jax.vmap(_factor_of_known, (0, None))(mixture.covariances, known)
    explain = jax.vmap(_explained, (0, 0, 0, None, None))
    log_evidence, _ = explain(factors, mixture.means, mixture.covariances, x, known)
    k = jax.random.categorical(choice, _log(mixture.weights) + log_evidence)
    mean, covariance = mixture.means[k], mixture.covariances[k]
    joint = mean + einsum('de,e->d', jnp.linalg.cholesky(covariance), jax.random.normal(noise, x.shape, x.dtype))
    _, explained = _explained(factors[k], joint, covariance, x, known)
    return jnp.where(known, x, joint + explained)


def _factor_of_known(covariance: jax.Array, known: jax.Array) -> jax.Array:
    """Returns the Cholesky factor of C_oo, with the identity in the rows and columns of unknown entries: [D, D]."""
    both = known[:, None] & known[None]
    return jnp.linalg.cholesky(jnp.where(both, covariance, jnp.eye(len(known), dtype=covariance.dtype)))


def _explained(
    factor: jax.Array, mean: jax.Array, covariance: jax.Array, x: jax.Array, known: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns log N(x_o; mean_o, C_oo), [], and what the known entries add to the mean, C_.o C_oo^-1 (x_o - mean_o)."""
    apart = jnp.where(known, x - mean, 0)
    solved = cho_solve((factor, True), apart)
    constant = known.sum() * math.log(2 * math.pi)
    log_evidence = -(einsum('d,d->', apart, solved) + _log_determinant(factor) + constant) / 2
    return log_evidence, einsum('de,e->d', covariance, solved)


def _centre(mixture: Mixture) -> jax.Array:
    """Returns the mean of the mixture [1, D]: products of examples lose least precision about it."""
    return einsum('k,kd->d', mixture.weights, mixture.means)[None]


def _log_determinant(factor: jax.Array) -> jax.Array:
    """Returns log |L L^T| for Cholesky factors [..., D, D]."""
    return 2 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)


def _log(values: jax.Array) -> jax.Array:
    """Returns the logarithm, finite at 0."""
    return jnp.log(jnp.maximum(values, jnp.finfo(values.dtype).tiny))
