"""Tests the standard deviation of codes, measured over the first steps and all devices."""

import jax
import jax.numpy as jnp
import numpy as np

from genlab.networks.layers.latent_scale import LatentScale


def measure(scale, batches):
    """Returns the variables after training on batches [steps, B, ...], and the deviation used per step."""
    variables, seen = scale.init(jax.random.key(0), batches[0], False), []
    assert scale.apply(variables, batches[0], False) == 1  # before the first step
    for batch in batches:
        deviation, variables = scale.apply(variables, batch, True, mutable=['latents'])
        seen.append(deviation)
    return variables, np.array(seen)


def test_the_deviation_is_measured_in_the_first_steps_and_then_fixed():
    batches = 3 + 5 * jax.random.normal(jax.random.key(1), (6, 4, 3, 3, 2)) * jnp.arange(1, 7).reshape(6, 1, 1, 1, 1)
    scale = LatentScale(steps=4)
    variables, seen = measure(scale, batches)
    np.testing.assert_allclose(seen, [batches[:n].std() for n in (1, 2, 3, 4, 4, 4)], rtol=1e-5)
    assert scale.apply(variables, batches[5], False) == seen[-1] and variables['latents']['count'] == 4


def test_two_devices_agree_with_one():
    batch = jax.random.normal(jax.random.key(1), (6, 3)) + jnp.arange(6.0)[:, None]
    variables = LatentScale().init(jax.random.key(0), batch, False)
    apply = lambda codes: LatentScale(axis='devices').apply(variables, codes, True, mutable=['latents'])[0]
    np.testing.assert_allclose(
        jax.vmap(apply, axis_name='devices')(batch.reshape(2, 3, 3)), [batch.std()] * 2, rtol=1e-5
    )
