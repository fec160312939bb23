"""How probable held-out data are: importance-weighted bounds, bits per dimension, and words for what the nats are of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from genlab.data.source import Source
from genlab.data.transforms import is_image, is_map


def importance_weighted(
    log_weight: Callable, variables, batch, keys: jax.Array, *, count: int, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """(the bound of k = `count` latents, the evidence lower bound) of log p(x) of each example: [B] each, nats.

    L_k = log 1/k sum_j w_j, w_j = p(x, z_j) / q(z_j | x) (Burda et al. 2016, equation 8); ELBO = 1/k sum_j log w_j of the same
    draws. log_weight: (variables, batch, keys [B]) -> log w [B], the ability of an Experiment. Latent j of an example is drawn
    by fold_in(its key, j), so it depends neither on chunk, the latents that are evaluated at a time, nor on the batch; memory
    depends on chunk and not on count. To be jitted by the caller, with count and chunk constants."""

    def one(number):
        return log_weight(variables, batch, jax.vmap(jax.random.fold_in, (0, None))(keys, number))

    def add(sums, numbers):
        weights, counted = jax.vmap(one)(numbers), (numbers < count)[:, None]
        log_sum = jax.nn.logsumexp(jnp.where(counted, weights, -jnp.inf), axis=0)
        return (jnp.logaddexp(sums[0], log_sum), sums[1] + jnp.sum(jnp.where(counted, weights, 0), 0)), None

    numbers = jnp.arange(-(-count // chunk) * chunk).reshape(-1, chunk)  # the last chunk may go beyond count
    start = jnp.full(keys.shape, -jnp.inf), jnp.zeros(keys.shape)
    (log_sum, total), _ = jax.lax.scan(add, start, numbers)
    return log_sum - np.log(count), total / count


def of_levels(log_density: np.ndarray, dimensions: int) -> np.ndarray:
    """Log density over values in [-1, 1) -> a lower bound of the log probability of the 8-bit levels, nats.

    log P(levels) >= E_u log p(x) - D log 128, as a level is 1/128 wide (Theis et al. 2016, section 3.1;
    genlab.data.transforms, `dequantise`). Densities of images that are not dequantised are none of levels: there is no such
    bound for them."""
    return log_density - dimensions * np.log(128)


def bits_per_dimension(nats: np.ndarray, dimensions: int, *, dequantised: bool) -> np.ndarray:
    """nats / (D log 2): bits for each value of an example of D values, H W C for images.

    nats: -log P of the levels or bits, as `nll` and `nll_bound` of `measure` are; or with `dequantised`, -log p of a density
    over dequantised values in [-1, 1), which becomes nats of levels first."""
    return (-of_levels(-nats, dimensions) if dequantised else nats) / (dimensions * np.log(2))


def treatment(config_data, source: Source) -> str:
    """What a likelihood is of, in words: nats of data that were treated differently cannot be compared."""
    field = source.fields[config_data.observe]
    if not is_map(field):
        return 'points'
    if config_data.binarise:
        return 'binarised anew at each reading'
    if config_data.dequantise:
        return 'uniformly dequantised 8-bit levels'
    return '8-bit levels' if is_image(field) else f'maps of {int(field.high) + 1} classes'
