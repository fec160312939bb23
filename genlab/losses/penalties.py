"""Penalties on the gradient and the scale of a critic: they stabilise adversarial training, one number per example.

`critic` is a function images [B, ...] -> logits [B]. The gradient of the SUM of the logits with respect to the images
holds every example's gradient, because logit i depends on image i alone, so one backward pass serves the batch.
That is false where examples mix: with batch normalisation on batch statistics, or minibatch standard deviation, the
result also holds what an image does to its neighbours' logits. The papers use layer or no normalisation in the critic
for this reason; Karras et al. 2018 accept the mixing of minibatch standard deviation.

Images are in [-1, 1], so gradients are in logits per unit of that range: a weight tuned on images in [0, 1] must be
multiplied by 4 for R1 and R2.
"""

import chex
import jax
import jax.numpy as jnp


def _squared_gradient_norm(critic, images):
    """|| grad_x D(x) ||^2 of each example: [B, ...] -> [B]."""

    def total(images):
        logits = critic(images)
        chex.assert_shape(logits, (images.shape[0],))
        return jnp.sum(logits)

    gradient = jax.grad(total)(images)
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, images.ndim)))


def _safe_sqrt(squared):
    """Square root whose gradient is zero, not infinite, at zero: [B] -> [B]."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)


def r1(critic, real):
    """Half the squared gradient norm on real images; weigh it by gamma (10 in StyleGAN).

    R1 = 1/2 || grad_x D(x) ||^2 (Mescheder et al. 2018, section 4.1, equation 9 without gamma).
    critic: images -> logits [B]; real: [B, ...], [-1, 1]. Returns [B], (logits per unit of image)^2.
    """
    return _squared_gradient_norm(critic, real) / 2


def r2(critic, fake):
    """Half the squared gradient norm on generated images; weigh it by gamma.

    R2 = 1/2 || grad_x D(x) ||^2 at x = G(z) (Mescheder et al. 2018, section 4.1, equation 10 without gamma). Only the
    critic learns from it: the caller decides whether gradients flow on into the generator (`stop_gradient`).
    critic: images -> logits [B]; fake: [B, ...], [-1, 1]. Returns [B], (logits per unit of image)^2.
    """
    return _squared_gradient_norm(critic, fake) / 2


def gradient_penalty(critic, real, fake, mixing, *, target=1.0, one_sided=False):
    """Squared distance of the gradient norm to a target, at random points between real and fake images.

    GP = (|| grad_x D(x) || - t)^2 at x = u x_real + (1 - u) x_fake (Gulrajani et al. 2017, section 4, equation 3; weigh
    it by 10). One-sided, GP = max(0, || grad_x D(x) || - t)^2, punishes only what is too steep.
    critic: images -> logits [B]; real, fake: [B, ...], [-1, 1]; mixing: [B], u uniform in [0, 1], one number per
    example; target: t, logits per unit of image. Returns [B], (logits per unit of image)^2.
    """
    chex.assert_equal_shape([real, fake])
    chex.assert_shape(mixing, (real.shape[0],))
    mixing = jnp.reshape(mixing, mixing.shape + (1,) * (real.ndim - 1))
    norm = _safe_sqrt(_squared_gradient_norm(critic, mixing * real + (1 - mixing) * fake))
    excess = norm - target
    return jnp.square(jax.nn.relu(excess) if one_sided else excess)


def drift(real_logits):
    """Keeps a critic without bounds from drifting away from zero.

    L = D(x)^2 (Karras et al. 2018, appendix A.1; weigh it by 0.001).
    real_logits: [B]. Returns [B], logits^2.
    """
    chex.assert_rank(real_logits, 1)
    return jnp.square(real_logits)
