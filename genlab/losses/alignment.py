"""Losses that align two embeddings of one thing, such as what is said and what is seen. One number per example.

A batch compares its examples, so `scores` has one column for each candidate of the whole batch. Where the batch is
split over devices, the caller collects the candidates from all of them first.
"""

import chex
import jax
import jax.numpy as jnp


def triplet(scores: jax.Array, own: jax.Array, rivals: jax.Array, *, margin: float) -> jax.Array:
    """Computes by how much rivals come within a margin of the counterpart, on average over all candidates.

    L_i = 1/N sum_j r_ij max(0, s_ij - s_i,o(i) + m): the joint embedding loss of the published training of Li et al.
    2020, after Reed et al. 2016, "Learning Deep Representations of Fine-Grained Visual Descriptions".

    Args:
        scores: similarity s of each example to each candidate, [B, N].
        own: column o of each example's counterpart, int [B].
        rivals: which candidates must score less, r, bool [B, N].
        margin: the least lead m of the counterpart, in the unit of the scores.

    Returns:
        Losses [B], in the unit of the scores.
    """
    chex.assert_rank(scores, 2)
    chex.assert_equal_shape([scores, rivals])
    chex.assert_shape(own, scores.shape[:1])
    lead = jnp.take_along_axis(scores, own[:, None], 1)
    return jnp.where(rivals, jax.nn.relu(scores - lead + margin), 0).mean(1)


def distillation(student: jax.Array, teacher: jax.Array, *, temperature: float) -> jax.Array:
    """Computes the KL divergence of the student's distribution over features from the teacher's softened one.

    L = sum_d t_d log(t_d / s_d), t = softmax(teacher / T), s = softmax(student) (Hinton et al. 2015, section 2; only
    the target is softened, as Li et al. 2020 do).

    Args:
        student: logits [B, D].
        teacher: logits [B, D]. No gradient is meant to reach them.
        temperature: T, above 0.

    Returns:
        Divergences [B], nats.
    """
    chex.assert_rank(student, 2)
    chex.assert_equal_shape([student, teacher])
    target = jax.nn.log_softmax(teacher / temperature)
    return jnp.sum(jnp.exp(target) * (target - jax.nn.log_softmax(student)), 1)


def direction_error(a: jax.Array, b: jax.Array, *, epsilon: float = 1e-8) -> jax.Array:
    """Computes the sum of absolute differences of two vectors that are scaled to unit length.

    L = || a / |a| - b / |b| ||_1.

    Args:
        a: vectors [B, D].
        b: vectors [B, D].
        epsilon: added to squared lengths; it keeps the gradient at 0 finite.

    Returns:
        Errors [B].
    """
    chex.assert_rank(a, 2)
    chex.assert_equal_shape([a, b])
    unit = lambda v: v * jax.lax.rsqrt(jnp.square(v).sum(1, keepdims=True) + epsilon)
    return jnp.abs(unit(a) - unit(b)).sum(1)


def mismatch(logits: jax.Array) -> jax.Array:
    """Computes minus the log-probability that a real example with the condition of another one is rejected.

    L = -log(1 - s(D(x, c'))) (Reed et al. 2016, "Generative Adversarial Text to Image Synthesis", algorithm 1, line 8).
    logits: [B], of mismatched pairs. Returns [B], nats.
    """
    chex.assert_rank(logits, 1)
    return jax.nn.softplus(logits)
