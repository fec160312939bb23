"""Divergences between a posterior and a prior, and bounds derived from them, in nats.

Distributions over latents are Gaussian with independent dimensions, given as mean and log-variance [B, D], or
categorical, given as logits. Values per latent are [B, D], so that a caller can sum over one level or group. All other
values are one number per example, [B].
"""

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp


def log_normal(z: jax.Array, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Computes the log-density of a Gaussian per coordinate.

    log N(z; m, v) = -((z - m)^2 / v + log v + log 2 pi) / 2.

    Args:
        z: points; like mean and log_variance, it broadcasts to [..., D].
        mean: mean m.
        log_variance: log v.

    Returns:
        Log-densities [..., D], nats.
    """
    chex.assert_equal_rank([z, mean, log_variance])
    return -(jnp.square(z - mean) * jnp.exp(-log_variance) + log_variance + jnp.log(2 * jnp.pi)) / 2


def standard_kl(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Computes the KL divergence of a Gaussian from N(0, 1) per latent. Its sum over latents is the KL per example.

    KL = (m^2 + v - log v - 1) / 2 (Kingma and Welling 2014, appendix B).
    mean, log_variance: [B, D]. Returns [B, D], nats.

    >>> print(standard_kl(mean=jnp.array([[0.0, 1.0]]), log_variance=jnp.zeros((1, 2))))
    [[0.  0.5]]
    """
    chex.assert_equal_shape([mean, log_variance])
    return (jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1) / 2


def gaussian_kl(
    mean: jax.Array, log_variance: jax.Array, prior_mean: jax.Array, prior_log_variance: jax.Array
) -> jax.Array:
    """Computes the KL divergence of a Gaussian N(m, v) from another N(p, w) per latent.

    KL = ((m - p)^2 / w + v / w - log(v / w) - 1) / 2.

    Args:
        mean: mean m, [B, D].
        log_variance: log v, [B, D].
        prior_mean: mean p, [B, D].
        prior_log_variance: log w, [B, D].

    Returns:
        Divergences [B, D], nats.
    """
    chex.assert_equal_shape([mean, log_variance, prior_mean, prior_log_variance])
    return standard_kl((mean - prior_mean) * jnp.exp(-prior_log_variance / 2), log_variance - prior_log_variance)


def uniform_kl(logits: jax.Array) -> jax.Array:
    """Computes the KL divergence of a categorical distribution from the uniform one, per latent.

    KL = log K + sum_k q_k log q_k, q = softmax(l): from 0 to log K (Ramesh et al. 2021, section 2.1).
    logits: logits l of K classes, [B, ..., K]. Returns [B, ...], nats.
    """
    log_q = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_q) * log_q, -1) + jnp.log(float(logits.shape[-1]))


def free_bits(kl: jax.Array, *, nats: float, axis: str | None = None) -> jax.Array:
    """Computes the KL divergence clipped from below per latent, so that its first nats have no gradient.

    L = sum_d max(lambda, E_batch KL_d) (Kingma et al. 2016, section 3.4, equation 15; every latent is a group). The
    mean over the batch is taken first, so the result is a property of the global batch.

    Args:
        kl: KL divergences per latent [B, D], nats.
        nats: free nats lambda per latent.
        axis: mapped axis over which the batch is split, or None.

    Returns:
        A scalar, nats.
    """
    chex.assert_rank(kl, 2)
    mean = jnp.mean(kl, 0)
    return jnp.sum(jnp.maximum(nats, mean if axis is None else jax.lax.pmean(mean, axis)))


def importance_bound(log_weights: jax.Array) -> jax.Array:
    """Computes the importance-weighted lower bound of log p(x) from k samples.

    It equals the evidence lower bound for k = 1, and converges to log p(x) for large k.

    L_k = log (1 / k) sum_i w_i, log w_i = log p(x, z_i) - log q(z_i | x), z_i ~ q (Burda et al. 2016, section 3,
    equation 8).
    log_weights: [k, B], nats. Returns [B], nats.

    >>> weights = jnp.array([[1.0], [3.0]])
    >>> round(float(importance_bound(jnp.log(weights))[0]), 4)  # the log of their mean, 2
    0.6931
    """
    chex.assert_rank(log_weights, 2)
    return logsumexp(log_weights, axis=0) - jnp.log(log_weights.shape[0])


def decompose_kl(
    z: jax.Array,
    mean: jax.Array,
    log_variance: jax.Array,
    all_means: jax.Array,
    all_log_variances: jax.Array,
    *,
    examples: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Computes mutual information, total correlation and dimension-wise KL divergence.

    Their sum is the one-sample estimate of the KL divergence (Chen et al. 2018, equation 2), with p = N(0, I):

        MI = log q(z | x) - log q(z),  TC = log q(z) - sum_d log q(z_d),  DW = sum_d log q(z_d) - log p(z).

    log q(z) is estimated by minibatch-weighted sampling, log (1 / (N M)) sum_j q(z | x_j), and log q(z_d) likewise
    (section 3.1). The bias grows with N / M, so compare only values of equal batch size.

    Args:
        z: latents [B, D], drawn from the posteriors.
        mean: posterior means [B, D].
        log_variance: posterior log-variances [B, D].
        all_means: posterior means [M, D] of a batch that contains these examples.
        all_log_variances: posterior log-variances [M, D] of that batch.
        examples: size N of the training set.

    Returns:
        Mutual information, total correlation and dimension-wise KL divergence, [B] each, nats.
    """
    chex.assert_equal_shape([z, mean, log_variance])
    chex.assert_equal_shape([all_means, all_log_variances])
    pairs = log_normal(z[:, None], all_means[None], all_log_variances[None])  # [B, M, D]
    log_count = jnp.log(float(examples)) + jnp.log(float(len(all_means)))
    log_joint = logsumexp(pairs.sum(2), axis=1) - log_count
    log_product = jnp.sum(logsumexp(pairs, axis=1) - log_count, axis=1)
    log_posterior = log_normal(z, mean, log_variance).sum(1)
    log_prior = log_normal(z, jnp.zeros_like(z), jnp.zeros_like(z)).sum(1)
    return log_posterior - log_joint, log_joint - log_product, log_product - log_prior
