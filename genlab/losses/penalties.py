"""Penalties on the gradient and the scale of a critic, which stabilise adversarial training. One number per example.

`critic` is a function images [B, ...] -> logits [B]. Logit i depends on image i alone. The gradient of the sum of the
logits with respect to the images therefore contains every example's gradient, and one backward pass suffices.

This does not hold where examples interact, through batch statistics or minibatch standard deviation. The result then
also contains the effect of an image on the logits of other images. For this reason the papers use layer normalisation
or none in the critic. Karras et al. 2018 accept the interaction through minibatch standard deviation.

Images are in [-1, 1], so gradients are in logits per unit of that range. Multiply weights of R1 and R2 that were tuned
on images in [0, 1] by 4.
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

Critic = Callable[[jax.Array], jax.Array]  # images [B, ...] -> logits [B]


def _squared_gradient_norm(critic: Critic, images: jax.Array) -> jax.Array:
    """Computes || grad_x D(x) ||^2 per example: [B, ...] -> [B]."""

    def total(images: jax.Array) -> jax.Array:
        logits = critic(images)
        chex.assert_shape(logits, (images.shape[0],))
        return jnp.sum(logits)

    gradient = jax.grad(total)(images)
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, images.ndim)))


def _safe_sqrt(squared: jax.Array) -> jax.Array:
    """Computes a square root with gradient zero, not infinite, at zero: [B] -> [B]."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)


def r1(critic: Critic, real: jax.Array) -> jax.Array:
    """Computes half the squared gradient norm on real images. Its usual weight is gamma (10 in StyleGAN).

    R1 = 1/2 || grad_x D(x) ||^2 (Mescheder et al. 2018, section 4.1, equation 9 without gamma).
    critic: images -> logits [B]; real: [B, ...], [-1, 1]. Returns [B], (logits per unit of image)^2.
    """
    return _squared_gradient_norm(critic, real) / 2


def r2(critic: Critic, fake: jax.Array) -> jax.Array:
    """Computes half the squared gradient norm on generated images. Its usual weight is gamma.

    R2 = 1/2 || grad_x D(x) ||^2 at x = G(z) (Mescheder et al. 2018, section 4.1, equation 10 without gamma). It is
    meant for the critic alone: apply `stop_gradient` to the fakes to keep gradients from the generator.
    critic: images -> logits [B]; fake: [B, ...], [-1, 1]. Returns [B], (logits per unit of image)^2.
    """
    return _squared_gradient_norm(critic, fake) / 2


def gradient_penalty(
    critic: Critic,
    real: jax.Array,
    fake: jax.Array,
    mixing: jax.Array,
    *,
    target: float = 1.0,
    one_sided: bool = False,
) -> jax.Array:
    """Computes the squared distance of the gradient norm to a target, at random points between real and fake images.

    GP = (|| grad_x D(x) || - t)^2 at x = u x_real + (1 - u) x_fake (Gulrajani et al. 2017, section 4, equation 3). Its
    usual weight is 10.

    Args:
        critic: the critic, images [B, ...] -> logits [B].
        real: real images [B, ...] in [-1, 1].
        fake: generated images [B, ...] in [-1, 1].
        mixing: uniform numbers u in [0, 1], one per example [B].
        target: the target t, logits per unit of image.
        one_sided: whether to penalise only norms above the target, GP = max(0, || grad_x D(x) || - t)^2.

    Returns:
        Penalties [B], (logits per unit of image)^2.
    """
    chex.assert_equal_shape([real, fake])
    chex.assert_shape(mixing, (real.shape[0],))
    mixing = jnp.reshape(mixing, mixing.shape + (1,) * (real.ndim - 1))
    norm = _safe_sqrt(_squared_gradient_norm(critic, mixing * real + (1 - mixing) * fake))
    excess = norm - target
    return jnp.square(jax.nn.relu(excess) if one_sided else excess)


def drift(real_logits: jax.Array) -> jax.Array:
    """Penalises logits far from zero, because an unbounded critic drifts.

    L = D(x)^2 (Karras et al. 2018, appendix A.1). Its usual weight is 0.001.
    real_logits: [B]. Returns [B], logits^2.
    """
    chex.assert_rank(real_logits, 1)
    return jnp.square(real_logits)


def path_lengths(generator: Callable[[jax.Array], jax.Array], styles: jax.Array, noise: jax.Array) -> jax.Array:
    """Computes how far a random direction in image space moves the styles: the length of J^T y per example.

    The norm is the root of the mean over layers of the squared norms. Their squared deviation from a running mean is
    the path length penalty (Karras et al. 2020, section 3.2, equation 4).

    Args:
        generator: styles [B, layers, D] -> images [B, H, W, C].
        styles: the styles w.
        noise: directions y ~ N(0, 1), [B, H, W, C]. They are divided by the root of H * W.

    Returns:
        Lengths [B], in units of images per unit of w.
    """
    scaled = noise / math.sqrt(math.prod(noise.shape[1:3]))
    gradient = jax.grad(lambda styles: jnp.sum(generator(styles) * scaled))(styles)
    return _safe_sqrt(jnp.square(gradient).sum(2).mean(1))
