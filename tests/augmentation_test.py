"""Tests augmentation in front of a discriminator: identities, inverses, exact moves, and the controller."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import augmentation
from genlab.augmentation import Controller, Motion, color_matrix, move, recolor

IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 3)), jnp.float32)
KEYS = jax.random.split(jax.random.key(0), 64)
MOVE = jax.jit(move)


def test_no_leak_at_probability_zero():
    """Each transform is the identity, so the discriminator sees the images themselves."""
    batch = jnp.stack([IMAGE] * 4)
    seen = jax.jit(lambda: augmentation.apply(augmentation.ada(), batch, KEYS[:4], jnp.zeros(()), 'real'))()
    np.testing.assert_allclose(seen, batch, atol=1e-5)


def test_two_uses_and_two_keys_differ():
    batch = jnp.stack([IMAGE] * 2)
    see = jax.jit(augmentation.apply, static_argnums=(0, 4))
    one, two = (see(augmentation.ada(), batch, KEYS[:2], jnp.ones(()), name) for name in ('real', 'fake'))
    assert np.abs(one - two).max() > 0.1 and np.abs(one[0] - one[1]).max() > 0.1


@pytest.mark.parametrize(
    'motion, expected',
    [
        (Motion(flip=1.0), IMAGE[:, ::-1]),
        (Motion(quarter=2), IMAGE[::-1, ::-1]),
        (Motion(quarter=1), jnp.rot90(IMAGE, -1)),
    ],
)
def test_flips_and_quarter_turns_are_exact(motion, expected):
    moved = MOVE(IMAGE, motion)
    assert any(np.abs(moved - jnp.asarray(way)).max() < 1e-6 for way in (expected, jnp.rot90(expected, 2)))
    np.testing.assert_allclose(np.sort(moved, None), np.sort(IMAGE, None), atol=1e-6)


def test_whole_pixels_are_exact():
    moved = MOVE(IMAGE, Motion(right=2.0, down=-1.0))
    np.testing.assert_allclose(moved[:-1, 2:], IMAGE[1:, :-2], atol=1e-6)


@pytest.mark.parametrize(
    'motion, inverse',
    [
        (Motion(scale=1.2), Motion(scale=1 / 1.2)),
        (Motion(before=0.3), Motion(before=-0.3)),
        (Motion(stretch=1.1), Motion(stretch=1 / 1.1)),
        (Motion(shift_right=0.4, shift_down=-0.3), Motion(shift_right=-0.4, shift_down=0.3)),
        (Motion(quarter=1), Motion(quarter=3)),
    ],
)
def test_a_motion_and_its_inverse_cancel_on_a_smooth_image(motion, inverse):
    rows, columns = np.meshgrid(np.arange(8) - 3.5, np.arange(8) - 3.5, indexing='ij')
    smooth = jnp.asarray(0.1 * rows + 0.05 * columns + 0.01 * rows * columns, jnp.float32)[..., None]
    moved = MOVE(smooth, motion)
    assert np.abs(moved - smooth).max() > 0.02
    np.testing.assert_allclose(MOVE(moved, inverse)[2:-2, 2:-2], smooth[2:-2, 2:-2], atol=0.02)


def test_colors():
    """At probability 0 nothing changes. Hue and luma flips keep the distance to grey; a grey image stays grey."""
    draw = jax.jit(jax.vmap(color_matrix, (0, None)))
    np.testing.assert_allclose(draw(KEYS, 0.0), np.broadcast_to(np.eye(3, 4), (64, 3, 4)), atol=1e-6)
    drawn = draw(KEYS, 1.0)
    grey = np.asarray(drawn)[:, :, :3] @ np.ones(3)
    np.testing.assert_allclose(grey, grey.mean(1, keepdims=True) * np.ones(3), atol=1e-4)
    invertible = np.linalg.det(np.asarray(drawn)[:, :, :3])
    assert (np.abs(invertible) > 1e-6).all() and (invertible < 0).any() and (invertible > 0).any()
    image = jnp.full((2, 2, 1), 0.5)
    colored, plain = recolor(jnp.full((2, 2, 3), 0.5), drawn[0]), recolor(image, drawn[0])
    np.testing.assert_allclose(plain, colored[..., :1], atol=1e-4)


def test_gradients_pass_through_every_transform():
    see = lambda image: augmentation.ada().transform(image, KEYS[3], jnp.ones(())).sum()
    assert np.isfinite(jax.jit(jax.grad(see))(IMAGE)).all() and np.abs(jax.jit(jax.grad(see))(IMAGE)).sum() > 0


def test_diffaugment_cuts_a_quarter_and_moves_by_an_eighth():
    cut = jax.vmap(augmentation._cut_out, (None, 0))(jnp.ones((8, 8, 1)), KEYS)
    assert (np.asarray(cut) == 0).sum((1, 2, 3)).max() == 16
    moved = jax.vmap(augmentation._translate, (None, 0))(jnp.ones((8, 8, 1)), KEYS)
    assert {int(one) for one in np.asarray(moved).sum((1, 2, 3))} == {49, 56, 64}
    jittered = jax.vmap(augmentation._jitter, (None, 0))(IMAGE, KEYS)
    shift = jittered.mean((1, 2, 3)) - IMAGE.mean()
    assert shift.min() >= -0.5 and shift.max() <= 0.5 and shift.std() > 0.2


@pytest.mark.parametrize('sign, expected', [(1.0, 0.5 + 0.25), (-1.0, 0.5 - 0.25)])
def test_the_controller_follows_the_sign_of_the_real_logits(sign, expected):
    """Four calls of eight images move the probability by 4 * 8 / 128, once."""
    controller = Controller(0.5, 0.6, 128)
    logits = sign * jnp.arange(1.0, 9.0)
    variables = controller.init(jax.random.key(0), logits, False)
    seen = []
    for _ in range(4):
        probability, variables = controller.apply(variables, logits, True, mutable=['augmentation'])
        seen.append(float(probability))
    assert seen == [0.5] * 4 and math.isclose(variables['augmentation']['probability'], expected, rel_tol=1e-6)


def test_the_probability_does_not_depend_on_the_devices():
    logits = jnp.asarray(np.random.default_rng(1).normal(0.9, 1, (4, 4)), jnp.float32)
    whole = Controller(0.5, 0.6, 64)
    start = whole.init(jax.random.key(0), logits.reshape(-1), False)
    for _ in range(4):
        _, start_one = whole.apply(start, logits.reshape(-1), True, mutable=['augmentation'])
    split = jax.pmap(
        lambda logits: Controller(0.5, 0.6, 64, 'batch').apply(start, logits, True, mutable=['augmentation'])[1],
        axis_name='batch',
    )(logits)
    for one, each in zip(jax.tree.leaves(start_one), jax.tree.leaves(split)):
        np.testing.assert_allclose(each, np.broadcast_to(one, (4,)), rtol=1e-6)
