"""Divergences between a posterior and a prior, and bounds derived from them, in nats.

Distributions over latents are Gaussian with independent dimensions, given as mean and log-variance [B, D]. A value per
latent is [B, D], so that a level or a group can be summed by itself; everything else is one number per example, [B].
"""

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp


def log_normal(z, mean, log_variance):
    """The log-density of a Gaussian at each coordinate.

    log N(z; m, v) = -((z - m)^2 / v + log v + log 2 pi) / 2. All arguments broadcast to one shape [..., D], the result's; nats.
    """
    chex.assert_equal_rank([z, mean, log_variance])
    return -(jnp.square(z - mean) * jnp.exp(-log_variance) + log_variance + jnp.log(2 * jnp.pi)) / 2


def standard_kl(mean, log_variance):
    """KL divergence of a Gaussian from N(0, 1), each latent by itself; sum over latents for the KL divergence per example.

    KL = (m^2 + v - log v - 1) / 2 (Kingma and Welling 2014, appendix B). mean, log_variance: [B, D]. Returns [B, D], nats.
    """
    chex.assert_equal_shape([mean, log_variance])
    return (jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1) / 2


def gaussian_kl(mean, log_variance, prior_mean, prior_log_variance):
    """KL divergence of a Gaussian N(m, v) from another N(p, w), each latent by itself.

    KL = ((m - p)^2 / w + v / w - log(v / w) - 1) / 2. All [B, D]. Returns [B, D], nats.
    """
    chex.assert_equal_shape([mean, log_variance, prior_mean, prior_log_variance])
    return standard_kl((mean - prior_mean) * jnp.exp(-prior_log_variance / 2), log_variance - prior_log_variance)


def free_bits(kl, *, nats, axis=None):
    """The KL divergence of which the first nats of each latent are free: there is nothing to gain from a smaller one.

    L = sum_d max(lambda, E_batch KL_d) (Kingma et al. 2016, section 3.4, equation 15; every latent is a group).
    kl: [B, D]; nats: lambda, of each latent; axis: the mapped axis over which the batch is split. Returns [], nats: the mean
    over the batch comes first, so it is a property of the whole batch.
    """
    chex.assert_rank(kl, 2)
    mean = jnp.mean(kl, 0)
    return jnp.sum(jnp.maximum(nats, mean if axis is None else jax.lax.pmean(mean, axis)))


def importance_bound(log_weights):
    """The lower bound of log p(x) that k samples give; the evidence lower bound at k = 1, log p(x) in the limit.

    L_k = log (1 / k) sum_i w_i, log w_i = log p(x, z_i) - log q(z_i | x), z_i ~ q (Burda et al. 2016, section 3, equation 8).
    log_weights: [k, B], nats. Returns [B], nats.
    """
    chex.assert_rank(log_weights, 2)
    return logsumexp(log_weights, axis=0) - jnp.log(log_weights.shape[0])


def decompose_kl(z, mean, log_variance, all_means, all_log_variances, *, examples):
    """Mutual information, total correlation and dimension-wise KL, whose sum is the one-sample estimate of the KL divergence.

    MI = log q(z | x) - log q(z), TC = log q(z) - sum_d log q(z_d), DW = sum_d log q(z_d) - log p(z), p = N(0, I) (Chen et al.
    2018, equation 2), with minibatch-weighted sampling: log q(z) ~ log (1 / (N M)) sum_j q(z | x_j), and for each z_d the
    same (section 3.1). It is biased: more the larger N is beside M, so compare values of one batch size only.
    z, mean, log_variance: [B, D]; all_means, all_log_variances: [M, D], of a batch that holds these examples; examples: N,
    of the training set. Returns three [B], nats.
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
