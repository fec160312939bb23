"""Tests the patch discriminator: the known sizes, and the patch that a logit sees."""

import jax
import jax.numpy as jnp
import pytest

from genlab.networks.adversarial.patch import PatchDiscriminator


@pytest.mark.parametrize(
    'channels, kind, size', [(3, 'batch', 2_765_633), (6, 'affine_instance', 2_768_705), (3, 'instance', 2_764_737)]
)
def test_the_known_sizes(channels, kind, size):
    module, x = PatchDiscriminator(normalization=kind), jnp.zeros((1, 256, 256, channels))
    logits, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), x, True))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == size and logits.shape == (1, 30, 30)


def test_a_logit_sees_a_patch_and_small_images_are_refused():
    """Counts the pixels that move the middle logit; those of instance normalisation would be all pixels."""
    for layers, side, patch in ((1, 32, 16), (3, 96, 70)):
        module, x = PatchDiscriminator(4, layers), jax.random.normal(jax.random.key(0), (1, side, side, 1))
        logit = lambda x: module.init_with_output(jax.random.key(1), x, False)[0][0]
        middle = jax.eval_shape(logit, x).shape[0] // 2
        seen = jax.jit(jax.grad(lambda x: logit(x)[middle, middle]))(x)[0, :, :, 0] != 0
        assert [int(seen.any(axis).sum()) for axis in (0, 1)] == [patch, patch]
        assert int(seen.sum()) == patch**2
    with pytest.raises(ValueError, match='1 layers needs a side of 6, not 4: use fewer layers'):
        PatchDiscriminator(4, layers=1).init(jax.random.key(1), x[:, :4, :4], False)
