"""Tests adversarial losses against numpy, closed forms at the optimum, and relations between the pairs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from genlab.losses import adversarial
from genlab.losses.adversarial import PAIRS

REAL = np.array([-3.0, -0.5, 0.0, 0.7, 4.0], np.float32)
FAKE = np.array([1.5, -0.2, 0.0, -2.0, 0.3], np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


def average(real, fake):
    return -np.log(sigmoid(real - fake.mean())) - np.log(1 - sigmoid(fake - real.mean()))


CROSS_ENTROPY = -np.log(sigmoid(REAL)) - np.log(1 - sigmoid(FAKE))
GOLDEN = {  # (discriminator, generator), straight from the papers' formulas in float64
    'non_saturating': (CROSS_ENTROPY, -np.log(sigmoid(FAKE))),
    'saturating': (CROSS_ENTROPY, np.log(1 - sigmoid(FAKE))),
    'least_squares': ((REAL - 1) ** 2 / 2 + FAKE**2 / 2, (FAKE - 1) ** 2 / 2),
    'wasserstein': (FAKE - REAL, -FAKE),
    'hinge': (-np.minimum(0, -1 + REAL) - np.minimum(0, -1 - FAKE), -FAKE),
    'relativistic': (-np.log(sigmoid(REAL - FAKE)), -np.log(sigmoid(FAKE - REAL))),
    'relativistic_average': (average(REAL, FAKE), average(FAKE, REAL)),
}
AT_ZERO = {  # a discriminator with logit 0 for all images
    'non_saturating': (np.log(4), np.log(2)),
    'saturating': (np.log(4), -np.log(2)),
    'least_squares': (0.5, 0.5),
    'wasserstein': (0, 0),
    'hinge': (2, 0),
    'relativistic': (np.log(2), np.log(2)),
    'relativistic_average': (np.log(4), np.log(4)),
}
EVERY_PAIR = pytest.mark.parametrize('name', sorted(PAIRS))


class VariantsTest(chex.TestCase):
    """Compares with golden values with and without jit, for numpy and device arrays, without type promotion."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    @parameterized.parameters(*sorted(PAIRS))
    def test_golden(self, name):
        with jax.numpy_dtype_promotion('strict'):
            discriminator = self.variant(PAIRS[name].discriminator)(REAL, FAKE)
            generator = self.variant(PAIRS[name].generator)(FAKE, REAL)
        for value, golden in zip((discriminator, generator), GOLDEN[name]):
            assert value.shape == (5,) and value.dtype == np.float32
            np.testing.assert_allclose(value, golden, rtol=1e-5, atol=1e-6)


@EVERY_PAIR
def test_value_of_a_constant_discriminator(name):
    zeros = jnp.zeros(3)
    values = PAIRS[name].discriminator(zeros, zeros)[0], PAIRS[name].generator(zeros, zeros)[0]
    np.testing.assert_allclose(values, AT_ZERO[name], rtol=1e-6)


@EVERY_PAIR
def test_the_players_have_opposite_gradients(name):
    """Expects the discriminator to increase real and decrease fake logits, and the generator to increase fake ones."""
    logits = jnp.array([0.3, -0.2, 0.1])
    real, fake = jax.grad(lambda r, f: PAIRS[name].discriminator(r, f).sum(), (0, 1))(logits, logits[::-1])
    wish = jax.grad(lambda f: PAIRS[name].generator(f, logits).sum())(logits[::-1])
    signs = np.sign(real).tolist(), np.sign(wish).tolist()
    assert signs == ([-1] * 3, [-1] * 3)
    np.testing.assert_array_less(0 if name != 'least_squares' else -0.25, fake)  # its fake target 0 attracts -0.2


@EVERY_PAIR
def test_extreme_logits_stay_finite(name):
    """Checks values and gradients at logits of +-10,000, for correct and wrong decisions."""
    logits = jnp.array([1e4, -1e4, 1e4, -1e4])
    for loss in PAIRS[name]:
        for other in (logits, -logits):
            value, gradients = jax.value_and_grad(lambda a, b: loss(a, b).sum(), (0, 1))(logits, other)
            chex.assert_tree_all_finite((value, gradients))


@EVERY_PAIR
@pytest.mark.parametrize('shape', [(4,), (5, 1), ()])
def test_shape_mismatch_raises(name, shape):
    for loss in PAIRS[name]:
        with pytest.raises(AssertionError):
            loss(jnp.asarray(REAL), jnp.zeros(shape))
        with pytest.raises(AssertionError):
            loss(jnp.ones((5, 1)), jnp.ones((5, 1)))


def test_saturation():
    """Expects d(saturating)/d(non-saturating) = s(D) / s(-D) = exp(D), which vanishes for detected fakes."""
    logits = jnp.array([-8.0, -1.0, 0.0, 2.0])
    slopes = [
        jax.vmap(jax.grad(lambda x: PAIRS[name].generator(x[None])[0]))(logits)
        for name in ('saturating', 'non_saturating')
    ]
    np.testing.assert_allclose(slopes[0] / slopes[1], np.exp(logits), rtol=1e-4)


def test_optimal_discriminator_measures_jensen_shannon():
    """Checks Goodfellow 2014, theorem 1, for two coins: at D* = log p/q the loss is log 4 - 2 JSD(p, q)."""
    p, q = np.array([0.8, 0.2]), np.array([0.3, 0.7])
    logits = jnp.log(p / q)
    middle = (p + q) / 2
    divergence = (p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2
    softplus = PAIRS['non_saturating'].discriminator
    real, fake = softplus(logits, jnp.full(2, -1e4)), softplus(jnp.full(2, 1e4), logits)
    np.testing.assert_allclose((p * real + q * fake).sum(), np.log(4) - 2 * divergence, rtol=1e-5)


def test_relations_between_pairs():
    """Checks: saturating is zero-sum in the fake, relativistic uses differences, hinge is Wasserstein in the margin."""
    real, fake = jnp.asarray(REAL), jnp.asarray(FAKE)
    saturating = PAIRS['saturating']
    np.testing.assert_allclose(
        saturating.discriminator(real, fake) + saturating.generator(fake, real),
        jax.nn.softplus(-real),
        rtol=1e-5,
        atol=1e-6,
    )
    for name in ('relativistic', 'relativistic_average', 'wasserstein'):
        np.testing.assert_allclose(
            PAIRS[name].discriminator(real + 3, fake + 3), PAIRS[name].discriminator(real, fake), rtol=1e-5, atol=1e-6
        )
    inside = jnp.array([-0.9, 0.2, 0.8])
    np.testing.assert_allclose(
        PAIRS['hinge'].discriminator(inside, -inside) - 2,
        PAIRS['wasserstein'].discriminator(inside, -inside),
        rtol=1e-5,
    )


def test_least_squares_targets():
    """Uses a = -1, b = 1, c = 0 (Mao 2017, equation 8): the loss is zero exactly at the targets."""
    ones = jnp.ones(2)
    np.testing.assert_array_equal(
        adversarial.least_squares_discriminator(2 * ones, -ones, real_target=2.0, fake_target=-1.0), 0
    )
    np.testing.assert_array_equal(adversarial.least_squares_generator(3 * ones, target=3.0), 0)
    assert adversarial.least_squares_generator(3 * ones)[0] == 2


def test_the_adaptive_weight_balances_the_gradients_of_a_linear_layer():
    """Checks y = h W: the gradient of |y - t|^2 / 2 is h^T (y - t), that of a critic y . c is h^T c."""
    draw = np.random.RandomState(3).normal
    h, layer, target, critic = (jnp.array(draw(size=size), jnp.float32) for size in ((1, 4), (4, 3), (1, 3), (1, 3)))
    errors = jax.grad(lambda layer: jnp.square(h @ layer - target).sum() / 2)(layer)
    fakes = jax.grad(lambda layer: -(h @ layer * critic).sum())(layer)
    weight = adversarial.adaptive_weight(errors, fakes, epsilon=0.0)
    expected = np.linalg.norm(h @ layer - target) / np.linalg.norm(critic)  # |h| cancels
    np.testing.assert_allclose(weight, expected, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(weight * fakes), jnp.linalg.norm(errors), rtol=1e-5)
    assert adversarial.adaptive_weight(errors, 0 * fakes, most=50.0) == 50
    assert not jax.grad(lambda scale: adversarial.adaptive_weight(scale * errors, fakes))(1.0)
