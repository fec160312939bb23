"""Checks of autoregressive networks: who depends on whom, and that decoding place by place equals the full pass."""

import jax
import jax.numpy as jnp
import numpy as np


def random_variables(module, *inputs, scale=0.4, **more):
    """Returns variables without zeros, so that no path through a network is closed. Weight norms keep the scale."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, **more))
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: (scale * noise.normal(size=leaf.shape)).astype(np.float32), shapes)


def dependence(function, x):
    """Returns which outputs depend on which inputs, in raster order.

    Args:
        function: from [B, h, w, C] to outputs [B, h, w, ...].
        x: float inputs of one example, [1, h, w, C].

    Returns:
        bool [h * w, h * w, C]: at [i, j, c], whether any output at place i has a derivative with respect to channel c
        of place j that is not exactly zero.
    """
    places = x.shape[1] * x.shape[2]
    outputs = lambda x: function(x).reshape(places, -1)
    # One random combination of the outputs of each place; a plain sum could cancel.
    mix = np.random.default_rng(1).normal(size=jax.eval_shape(outputs, x).shape).astype(np.float32)
    gradient = jax.jit(jax.jacrev(lambda x: (outputs(x) * mix).sum(1)))(jnp.asarray(x))
    return np.asarray(gradient).reshape(places, places, x.shape[-1]) != 0


def assert_causal(function, x):
    """Checks that outputs at each place depend on every channel of all earlier places, and on nothing else.

    Args:
        function: from [1, h, w, C] to outputs [1, h, w, ...].
        x: float inputs [1, h, w, C].
    """
    found = dependence(function, x)
    earlier = np.tri(len(found), k=-1, dtype=bool)
    later = np.argwhere(found.any(-1) & ~earlier)
    assert not len(later), f'outputs (first) see inputs that are not earlier (second): {later[:5].tolist()}'
    missing = np.argwhere(~found.all(-1) & earlier)
    assert not len(missing), f'outputs (first) do not see earlier inputs (second): {missing[:5].tolist()}'


def decoded(module, variables, x, **condition):
    """Returns the outputs of `start` and of `advance` over all places, for the values of x [B, h, w, ...]."""
    count, height, width = x.shape[:3]
    values = jnp.moveaxis(x.reshape(count, height * width, *x.shape[3:]), 1, 0)
    # Values at place - 1; what stands before place 0 must be ignored, so it is far from any value.
    previous = jnp.concatenate([jnp.full_like(values[:1], 1_000), values[:-1]])
    cache = module.apply(variables, count, **condition, method='start')

    def step(cache, inputs):
        outputs, cache = module.apply(variables, cache, *inputs, method='advance')
        return cache, outputs

    _, outputs = jax.lax.scan(step, cache, (previous, jnp.arange(height * width)))
    return jnp.moveaxis(outputs, 0, 1).reshape(count, height, width, *outputs.shape[2:])


def assert_decoding_equals_the_full_pass(module, variables, x, tolerance=1e-5, **condition):
    """Checks that `decoded` gives the outputs of the full pass for values x [B, h, w, ...]."""

    @jax.jit
    def both(variables, x, condition):
        return module.apply(variables, x, False, **condition), decoded(module, variables, x, **condition)

    full, steps = both(variables, jnp.asarray(x), condition)
    assert full.dtype == steps.dtype
    np.testing.assert_allclose(steps, full, atol=tolerance, rtol=tolerance)
