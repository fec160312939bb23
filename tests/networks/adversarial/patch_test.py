"""Tests the patch discriminator: the known sizes, and the patch that a logit sees."""

import jax
import jax.numpy as jnp
import pytest

from genlab.networks.adversarial.patch import PatchDiscriminator


@pytest.mark.parametrize('channels, size', [(3, 2_765_633), (6, 2_768_705)])
def test_the_known_sizes(channels, size):
    logits, variables = jax.eval_shape(
        lambda: PatchDiscriminator().init_with_output(jax.random.key(0), jnp.zeros((1, 256, 256, channels)), True)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == size and logits.shape == (1, 30, 30)


def test_a_logit_sees_a_patch_and_small_images_are_refused():
    """Counts the pixels that move the middle logit: 4 + 2 * 3 + 2 * 3 = 16 per side with one layer, 34 with two."""
    module, x = PatchDiscriminator(4, layers=1), jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    logit = lambda x: module.init_with_output(jax.random.key(1), x, False)[0][0, 7, 7]
    seen = jax.jit(jax.grad(logit))(x)[0, :, :, 0] != 0
    assert [int(seen.any(axis).sum()) for axis in (0, 1)] == [16, 16]
    with pytest.raises(ValueError, match='1 layers needs a side of 6, not 4: use fewer layers'):
        module.init(jax.random.key(1), x[:, :4, :4], False)
