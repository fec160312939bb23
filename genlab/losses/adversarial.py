"""Adversarial losses of discriminator and generator as functions of logits, one number per example.

Every pair has the same two signatures, so that a config can select it by name:

    discriminator(real_logits [B], fake_logits [B]) -> [B]
    generator(fake_logits [B], real_logits [B]) -> [B]

Logits are the raw outputs D(.) of the discriminator, before any sigmoid; positive means "real". Losses that are
likelihoods (saturating, non-saturating, relativistic) are in nats. The others are in units of the logits. A generator
loss that does not compare real with fake accepts `real_logits=None`. A patch discriminator has several logits per
image: reshape [B, h, w] to [B * h * w], so that every patch is an example.

>>> pair = PAIRS['non_saturating']
>>> loss = pair.discriminator(jnp.zeros(2), jnp.zeros(2))
>>> [round(float(each), 3) for each in loss]  # log 4 at chance level
[1.386, 1.386]
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Pair(NamedTuple):
    """Holds the losses of one adversarial pair."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]  # (real_logits [B], fake_logits [B]) -> [B]
    generator: Callable[[jax.Array, jax.Array], jax.Array]  # (fake_logits [B], real_logits [B]) -> [B]


def _check(*logits: jax.Array | None) -> None:
    """Checks that all logits have one axis and equal shapes. Broadcasting [B] with [B, 1] would return [B, B]."""
    given = [array for array in logits if array is not None]
    chex.assert_rank(given, 1)
    chex.assert_equal_shape(given)


def cross_entropy_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Computes the cross-entropy of classifying real and fake. It is log 4 for a discriminator at chance level.

    L = -log s(D(x)) - log(1 - s(D(G(z)))), s the sigmoid (Goodfellow et al. 2014, section 3, equation 1, negated).
    Uses softplus, which neither overflows nor loses its gradient at large logits.
    real_logits, fake_logits: [B]. Returns [B], nats.
    """
    _check(real_logits, fake_logits)
    return jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)


def non_saturating_generator(fake_logits: jax.Array, real_logits: jax.Array | None = None) -> jax.Array:
    """Computes minus the log-probability that a fake is classified as real.

    Its gradient stays large while the discriminator is better than the generator.

    L = -log s(D(G(z))) (Goodfellow et al. 2014, section 3, the paragraph after equation 1).
    fake_logits: [B]; real_logits: ignored. Returns [B], nats.
    """
    _check(fake_logits, real_logits)
    return jax.nn.softplus(-fake_logits)


def saturating_generator(fake_logits: jax.Array, real_logits: jax.Array | None = None) -> jax.Array:
    """Computes the generator's part of the minimax loss. Its gradient vanishes where fakes are confidently rejected.

    L = log(1 - s(D(G(z)))) (Goodfellow et al. 2014, section 3, equation 1).
    fake_logits: [B]; real_logits: ignored. Returns [B], nats, never positive.
    """
    _check(fake_logits, real_logits)
    return -jax.nn.softplus(fake_logits)


def least_squares_discriminator(
    real_logits: jax.Array, fake_logits: jax.Array, *, real_target: float = 1.0, fake_target: float = 0.0
) -> jax.Array:
    """Computes the squared distance of the logits to one target for real and another for fake examples.

    L = (D(x) - b)^2 / 2 + (D(G(z)) - a)^2 / 2 (Mao et al. 2017, section 3.2, equation 2).

    Args:
        real_logits: logits of real examples [B].
        fake_logits: logits of fake examples [B].
        real_target: target b of real examples.
        fake_target: target a of fake examples.

    Returns:
        Losses [B], logits squared.
    """
    _check(real_logits, fake_logits)
    return (jnp.square(real_logits - real_target) + jnp.square(fake_logits - fake_target)) / 2


def least_squares_generator(
    fake_logits: jax.Array, real_logits: jax.Array | None = None, *, target: float = 1.0
) -> jax.Array:
    """Computes the squared distance of the logits of fakes to the generator's target.

    L = (D(G(z)) - c)^2 / 2 (Mao et al. 2017, section 3.2, equation 2; c = b is the 0-1 coding, equation 9).

    Args:
        fake_logits: logits of fake examples [B].
        real_logits: ignored.
        target: the target c.

    Returns:
        Losses [B], logits squared.
    """
    _check(fake_logits, real_logits)
    return jnp.square(fake_logits - target) / 2


def wasserstein_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Computes minus the critic's estimate of the earth mover's distance. The critic must be 1-Lipschitz.

    L = D(G(z)) - D(x) (Arjovsky et al. 2017, section 3, equation 2 and algorithm 1).
    real_logits, fake_logits: [B]. Returns [B], in units of the distance between images for a 1-Lipschitz critic.
    """
    _check(real_logits, fake_logits)
    return fake_logits - real_logits


def wasserstein_generator(fake_logits: jax.Array, real_logits: jax.Array | None = None) -> jax.Array:
    """Computes minus the critic's score of the fakes.

    L = -D(G(z)) (Arjovsky et al. 2017, algorithm 1). The hinge pair uses the same generator loss (Miyato et al. 2018,
    equation 17). fake_logits: [B]; real_logits: ignored. Returns [B].
    """
    _check(fake_logits, real_logits)
    return -fake_logits


def hinge_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Computes a margin loss. It is zero for an example that is classified correctly by a margin above 1.

    L = max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017; Miyato et al. 2018, section 4, equation 16, negated).
    real_logits, fake_logits: [B]. Returns [B].

    >>> print(hinge_discriminator(jnp.array([2.0, 0.0]), jnp.array([-2.0, 0.5])))
    [0.  2.5]
    """
    _check(real_logits, fake_logits)
    return jax.nn.relu(1 - real_logits) + jax.nn.relu(1 + fake_logits)


def relativistic_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Computes the cross-entropy of identifying the real one in a pair of real and fake. At chance level it is log 2.

    L = -log s(D(x) - D(G(z))) (Jolicoeur-Martineau 2018, section 4.1; used in R3GAN, Huang et al. 2024, section 2).
    real_logits, fake_logits: [B], paired by position. Returns [B], nats.
    """
    _check(real_logits, fake_logits)
    return jax.nn.softplus(fake_logits - real_logits)


def relativistic_generator(fake_logits: jax.Array, real_logits: jax.Array) -> jax.Array:
    """Computes the relativistic discriminator loss with real and fake exchanged.

    L = -log s(D(G(z)) - D(x)) (Jolicoeur-Martineau 2018, section 4.1).
    fake_logits, real_logits: [B], paired by position. Returns [B], nats.
    """
    return relativistic_discriminator(fake_logits, real_logits)


def relativistic_average_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Computes the cross-entropy of real against the average fake, and of fake against the average real.

    L = -log s(D(x) - E D(G(z))) - log(1 - s(D(G(z)) - E D(x))) (Jolicoeur-Martineau 2018, section 4.2). At chance level
    it is log 4. E is the mean over the given examples: the local batch under `pmap`, the global batch under `jit`.
    real_logits, fake_logits: [B]. Returns [B], nats.
    """
    _check(real_logits, fake_logits)
    real_lead = real_logits - jnp.mean(fake_logits)
    fake_lead = fake_logits - jnp.mean(real_logits)
    return jax.nn.softplus(-real_lead) + jax.nn.softplus(fake_lead)


def relativistic_average_generator(fake_logits: jax.Array, real_logits: jax.Array) -> jax.Array:
    """Computes the relativistic average discriminator loss with real and fake exchanged.

    L = -log s(D(G(z)) - E D(x)) - log(1 - s(D(x) - E D(G(z)))) (Jolicoeur-Martineau 2018, section 4.2).
    fake_logits, real_logits: [B]. Returns [B], nats.
    """
    return relativistic_average_discriminator(fake_logits, real_logits)


def adaptive_weight(
    reconstruction: jax.Array, adversarial: jax.Array, *, epsilon: float = 1e-4, most: float = 1e4
) -> jax.Array:
    """Computes the weight at which the adversarial gradient has the norm of the reconstruction gradient.

    lambda = |g_rec| / (|g_adv| + epsilon), clipped to [0, most], detached (Esser et al. 2021, section 3.2, equation 7).

    Args:
        reconstruction: gradient g_rec of the reconstruction loss with respect to the last layer, of any shape.
        adversarial: gradient g_adv of the generator's adversarial loss, of the same shape.
        epsilon: added to the norm of g_adv; not negative.
        most: the largest weight.

    Returns:
        A scalar. It scales with the gradients of the whole batch, so it is a property of the batch.
    """
    chex.assert_equal_shape([reconstruction, adversarial])
    ratio = jnp.linalg.norm(reconstruction.ravel()) / (jnp.linalg.norm(adversarial.ravel()) + epsilon)
    return jax.lax.stop_gradient(jnp.minimum(ratio, most))


PAIRS = {
    'non_saturating': Pair(cross_entropy_discriminator, non_saturating_generator),
    'saturating': Pair(cross_entropy_discriminator, saturating_generator),
    'least_squares': Pair(least_squares_discriminator, least_squares_generator),
    'wasserstein': Pair(wasserstein_discriminator, wasserstein_generator),
    'hinge': Pair(hinge_discriminator, wasserstein_generator),
    'relativistic': Pair(relativistic_discriminator, relativistic_generator),
    'relativistic_average': Pair(relativistic_average_discriminator, relativistic_average_generator),
}
