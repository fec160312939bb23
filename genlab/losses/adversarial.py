"""Adversarial games: what the discriminator and the generator minimise, as functions of logits, one number per example.

Every pair has the same two signatures, so that a config can name one:

    discriminator(real_logits [B], fake_logits [B]) -> [B]
    generator(fake_logits [B], real_logits [B]) -> [B]

Logits are the raw outputs D(.) of the discriminator, before any sigmoid; positive means "real". All losses are in nats
where they are likelihoods (saturating, non-saturating, relativistic) and in units of the logits otherwise. A pair that
does not compare real with fake takes `real_logits=None` in the generator's loss. A patch discriminator
has more than one logit per image: reshape [B, h, w] to [B * h * w], every patch is an example.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Pair(NamedTuple):
    """The two losses of one game."""

    discriminator: Callable  # (real_logits [B], fake_logits [B]) -> [B]
    generator: Callable  # (fake_logits [B], real_logits [B]) -> [B]


def _check(*logits):
    """Logits that are given have one axis and one shape: a silent [B] against [B, 1] would make a [B, B] loss."""
    given = [array for array in logits if array is not None]
    chex.assert_rank(given, 1)
    chex.assert_equal_shape(given)


def cross_entropy_discriminator(real_logits, fake_logits):
    """Cross-entropy of classifying real and fake, log 4 when the discriminator can only guess.

    L = -log s(D(x)) - log(1 - s(D(G(z)))), s the sigmoid (Goodfellow et al. 2014, section 3, equation 1, negated).
    Written with softplus, which neither overflows nor loses its gradient at large logits.
    real_logits, fake_logits: [B]. Returns [B], nats.
    """
    _check(real_logits, fake_logits)
    return jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)


def non_saturating_generator(fake_logits, real_logits=None):
    """Minus the log-probability that the fake is classified as real: strong gradients while the discriminator wins.

    L = -log s(D(G(z))) (Goodfellow et al. 2014, section 3, the paragraph after equation 1).
    fake_logits: [B]; real_logits: ignored. Returns [B], nats.
    """
    _check(fake_logits, real_logits)
    return jax.nn.softplus(-fake_logits)


def saturating_generator(fake_logits, real_logits=None):
    """The minimax game as it stands; its gradient vanishes where the discriminator is sure of a fake.

    L = log(1 - s(D(G(z)))) (Goodfellow et al. 2014, section 3, equation 1).
    fake_logits: [B]; real_logits: ignored. Returns [B], nats, never positive.
    """
    _check(fake_logits, real_logits)
    return -jax.nn.softplus(fake_logits)


def least_squares_discriminator(real_logits, fake_logits, *, real_target=1.0, fake_target=0.0):
    """Squared distance of the outputs to one target for real and another for fake.

    L = (D(x) - b)^2 / 2 + (D(G(z)) - a)^2 / 2 (Mao et al. 2017, section 3.2, equation 2).
    real_logits, fake_logits: [B]; real_target: b; fake_target: a. Returns [B].
    """
    _check(real_logits, fake_logits)
    return (jnp.square(real_logits - real_target) + jnp.square(fake_logits - fake_target)) / 2


def least_squares_generator(fake_logits, real_logits=None, *, target=1.0):
    """Squared distance of the outputs on fakes to the generator's target.

    L = (D(G(z)) - c)^2 / 2 (Mao et al. 2017, section 3.2, equation 2; c = b is the 0-1 coding, equation 9).
    fake_logits: [B]; real_logits: ignored; target: c. Returns [B].
    """
    _check(fake_logits, real_logits)
    return jnp.square(fake_logits - target) / 2


def wasserstein_discriminator(real_logits, fake_logits):
    """Minus the critic's estimate of the earth mover's distance, as long as the critic is kept 1-Lipschitz.

    L = D(G(z)) - D(x) (Arjovsky et al. 2017, section 3, equation 2 and algorithm 1).
    real_logits, fake_logits: [B]. Returns [B], units of distance between images when the critic is 1-Lipschitz.
    """
    _check(real_logits, fake_logits)
    return fake_logits - real_logits


def wasserstein_generator(fake_logits, real_logits=None):
    """Minus the critic's score of the fakes.

    L = -D(G(z)) (Arjovsky et al. 2017, algorithm 1; also the generator of the hinge game, Miyato et al. 2018,
    equation 17). fake_logits: [B]; real_logits: ignored. Returns [B].
    """
    _check(fake_logits, real_logits)
    return -fake_logits


def hinge_discriminator(real_logits, fake_logits):
    """Margin loss: an example that is right by more than 1 is left alone.

    L = max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017; Miyato et al. 2018, section 4, equation 16, negated).
    real_logits, fake_logits: [B]. Returns [B].
    """
    _check(real_logits, fake_logits)
    return jax.nn.relu(1 - real_logits) + jax.nn.relu(1 + fake_logits)


def relativistic_discriminator(real_logits, fake_logits):
    """Cross-entropy of identifying the real one in a pair of real and fake; log 2 when it can only guess.

    L = -log s(D(x) - D(G(z))) (Jolicoeur-Martineau 2018, section 4.1; the game of R3GAN, Huang et al. 2024, section 2).
    real_logits, fake_logits: [B], paired by position. Returns [B], nats.
    """
    _check(real_logits, fake_logits)
    return jax.nn.softplus(fake_logits - real_logits)


def relativistic_generator(fake_logits, real_logits):
    """The relativistic discriminator with the roles of real and fake exchanged.

    L = -log s(D(G(z)) - D(x)) (Jolicoeur-Martineau 2018, section 4.1).
    fake_logits, real_logits: [B], paired by position. Returns [B], nats.
    """
    return relativistic_discriminator(fake_logits, real_logits)


def relativistic_average_discriminator(real_logits, fake_logits):
    """Cross-entropy of real against the average fake and fake against the average real; log 4 when it can only guess.

    L = -log s(D(x) - E D(G(z))) - log(1 - s(D(G(z)) - E D(x))) (Jolicoeur-Martineau 2018, section 4.2). E is the mean
    over the examples at hand: over one device's share under `pmap`, over the whole batch under `jit`.
    real_logits, fake_logits: [B]. Returns [B], nats.
    """
    _check(real_logits, fake_logits)
    real_lead = real_logits - jnp.mean(fake_logits)
    fake_lead = fake_logits - jnp.mean(real_logits)
    return jax.nn.softplus(-real_lead) + jax.nn.softplus(fake_lead)


def relativistic_average_generator(fake_logits, real_logits):
    """The relativistic average discriminator with the roles of real and fake exchanged.

    L = -log s(D(G(z)) - E D(x)) - log(1 - s(D(x) - E D(G(z)))) (Jolicoeur-Martineau 2018, section 4.2).
    fake_logits, real_logits: [B]. Returns [B], nats.
    """
    return relativistic_average_discriminator(fake_logits, real_logits)


PAIRS = {
    'non_saturating': Pair(cross_entropy_discriminator, non_saturating_generator),
    'saturating': Pair(cross_entropy_discriminator, saturating_generator),
    'least_squares': Pair(least_squares_discriminator, least_squares_generator),
    'wasserstein': Pair(wasserstein_discriminator, wasserstein_generator),
    'hinge': Pair(hinge_discriminator, wasserstein_generator),
    'relativistic': Pair(relativistic_discriminator, relativistic_generator),
    'relativistic_average': Pair(relativistic_average_discriminator, relativistic_average_generator),
}
