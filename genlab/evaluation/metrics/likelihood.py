"""Likelihoods of held-out data: importance-weighted bounds, bits per dimension, and how the data are treated."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab.abilities import Batch, PerExample, Variables
from genlab.data.source import Source
from genlab.data.transforms import is_image, is_map
from genlab.noise import stream


def importance_weighted(
    log_weight: PerExample, variables: Variables, batch: Batch, keys: jax.Array, *, count: int, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the importance-weighted bound and the evidence lower bound of log p(x), [B] each, nats.

    L_k = log 1/k sum_j w_j, w_j = p(x, z_j) / q(z_j | x) (Burda et al. 2016, equation 8); ELBO = 1/k sum_j log w_j for
    the same draws. Latent j of an example is draw j of the stream `importance` of its key, so it depends neither on
    `chunk` nor on the batch. Memory depends on `chunk` and not on `count`. The caller compiles this function, with both
    as constants.

    Args:
      log_weight: `Likelihood.log_weight` of an Experiment: (variables, batch, keys [B]) -> log w [B].
      variables, batch: of the model, and a prepared batch.
      keys: [B], one per example.
      count: k, latents per example.
      chunk: latents evaluated at a time.

    Returns:
      (L_k [B], ELBO [B]).
    """

    def one(number):
        return log_weight(variables, batch, stream(keys, 'importance', number))

    def add(sums, numbers):
        weights, counted = jax.vmap(one)(numbers), (numbers < count)[:, None]
        log_sum = jax.nn.logsumexp(jnp.where(counted, weights, -jnp.inf), axis=0)
        return (jnp.logaddexp(sums[0], log_sum), sums[1] + jnp.sum(jnp.where(counted, weights, 0), 0)), None

    numbers = jnp.arange(-(-count // chunk) * chunk).reshape(-1, chunk)  # the last chunk may exceed count
    start = jnp.full(keys.shape, -jnp.inf), jnp.zeros(keys.shape)
    (log_sum, total), _ = jax.lax.scan(add, start, numbers)
    return log_sum - np.log(count), total / count


def log_mean(log_weights: np.ndarray) -> tuple[float, float, float]:
    """Returns the log of the mean of weights, and of the mean minus and plus 3 standard errors, in nats.

    It is the interval of an estimate of Z by annealed importance sampling (Salakhutdinov and Murray 2008, section 5).
    The lower end is -inf where 3 standard errors exceed the mean. log_weights: [R], R > 1.
    """
    top = float(np.max(log_weights))
    weights = np.exp(np.asarray(log_weights, np.float64) - top)
    mean, error = weights.mean(), weights.std(ddof=1) / np.sqrt(len(weights))
    low = np.log(mean - 3 * error) if mean > 3 * error else -np.inf
    return float(np.log(mean) + top), float(low + top), float(np.log(mean + 3 * error) + top)


def of_levels(log_density: np.ndarray, dimensions: int) -> np.ndarray:
    """Converts a log density over values in [-1, 1) to a lower bound for 8-bit levels, in nats.

    log P(levels) >= E_u log p(x) - D log 128, since a level is 1/128 wide (Theis et al. 2016, section 3.1). It holds
    only for images that `genlab.data.transforms.dequantise` has dequantised. log_density: [N]; dimensions: D.
    """
    return log_density - dimensions * np.log(128)


def bits_per_dimension(nats: np.ndarray, dimensions: int, *, dequantised: bool) -> np.ndarray:
    """Returns nats / (D log 2): bits per value of an example.

    Args:
      nats: -log P of levels or bits, as `nll` and `nll_bound` of `measure` are. With `dequantised`: -log p of a density
        over dequantised values in [-1, 1), which is converted to levels first.
      dimensions: D, H W C for images.
      dequantised: whether `nats` are of a density.
    """
    return (-of_levels(-nats, dimensions) if dequantised else nats) / (dimensions * np.log(2))


def treatment(config_data: ConfigDict, source: Source) -> str:
    """Describes how the data are treated. Likelihoods of data treated differently do not compare.

    The description is part of the protocol id.
    """
    field = source.fields[config_data.observe]
    if not is_map(field):
        return 'points'
    if config_data.binarise:
        return 'binarised with new noise per epoch'
    if config_data.dequantise:
        return 'uniformly dequantised 8-bit levels'
    return '8-bit levels' if is_image(field) else f'maps of {int(field.high) + 1} classes'
