"""Tests priors over the codes of a tokenizer with two grids: likelihoods, completion, and finer grids drawn again."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import config as configs
from genlab.choices import named
from genlab.models import autoregressive, masked, priors
from genlab.models.tokenizer import Tokenizer

COUNT = 32  # examples
SIZES = dict(width=8, depth=1, heads=1)
FAMILIES = {
    'autoregressive': (autoregressive, named('transformer', **SIZES)),
    'masked': (masked, named('masked_transformer', **SIZES)),
}


def coarse(x, side):
    """Averages images [B, H, W, 1] over the cells of a grid: [B, side, side]. Each cell sees a little of the others."""
    x = x + x.mean((1, 2), keepdims=True)
    return x.reshape(len(x), side, x.shape[1] // side, side, x.shape[2] // side).mean((2, 4))


def tokenizer(top=2, bottom=4, entries=3):
    """Returns a tokenizer of images of side 2 * bottom: codes are the brightness of cells, drawn as bottom + 10 top."""
    encode = lambda variables, batch: {
        'top': jnp.clip(jnp.floor(coarse(batch['x'], top) * 2 + 2), 0, 4).astype(jnp.int32),
        'bottom': jnp.clip(jnp.floor(coarse(batch['x'], bottom) + 1), 0, entries - 1).astype(jnp.int32),
    }

    def decode(variables, codes):
        up = lambda grid: jnp.repeat(jnp.repeat(grid, 2 * bottom // grid.shape[1], 1), 2 * bottom // grid.shape[2], 2)
        return (up(codes['bottom']) + 10 * up(codes['top']))[..., None].astype(jnp.float32)

    return Tokenizer(
        {'top': (top, top), 'bottom': (bottom, bottom)}, {'top': 5, 'bottom': entries}, encode, decode, lambda _: {}, ()
    )


def make(family, tokens):
    """Returns a prior and its variables, with made-up weights."""
    module, network = FAMILIES[family]
    config = configs.defaults('prior')
    config.model.update(module.settings(network, lower=network, classes=2))
    config.sample.update(module.sampling())
    prior = priors.from_config(config, tokens)
    batch = {
        level.field: jnp.zeros((1, *shape), jnp.int32) for level, shape in zip(prior.levels, tokens.shapes.values())
    }
    batch |= {'x': jnp.zeros((1, 1)), 'label': jnp.zeros(1, jnp.int32)}
    networks = priors.networks(prior, batch)
    shapes = jax.eval_shape(
        lambda: {
            name: found.module.init(jax.random.key(0), *found.inputs, **found.named) for name, found in networks.items()
        }
    )
    random = np.random.RandomState(0)
    return prior, jax.tree.map(lambda leaf: jnp.asarray(0.5 * random.randn(*leaf.shape), jnp.float32), shapes)


@pytest.fixture(scope='module')
def made():
    return {name: make(name, tokenizer()) for name in FAMILIES}


@pytest.fixture(scope='module')
def images():
    random = np.random.RandomState(1)
    x = np.repeat(np.repeat(random.uniform(-1, 1, (COUNT, 4, 4, 1)), 2, 1), 2, 2)
    return {'x': jnp.asarray(x, jnp.float32), 'label': jnp.arange(COUNT) % 2}


KEYS = lambda: jax.random.split(jax.random.key(2), COUNT)
LEFT = np.broadcast_to((np.arange(8) < 4).astype(np.float32)[None, None, :, None], (COUNT, 8, 8, 1))


@pytest.mark.parametrize('family', FAMILIES)
def test_completion_keeps_what_is_known_and_does_not_see_the_rest(family, made, images):
    prior, variables = made[family]
    run = jax.jit(lambda x, keys: priors.inpaint(prior, variables, {**images, 'x': x}, LEFT, keys, label(images)))
    found = np.asarray(run(images['x'], KEYS()))
    np.testing.assert_array_equal(found[:, :, :4], images['x'][:, :, :4])
    other = jnp.where(LEFT > 0, images['x'], -images['x'])
    np.testing.assert_array_equal(run(other, KEYS()), found)  # the unknown half enters nowhere
    changed = np.asarray(run(images['x'].at[:, :, :4].multiply(-1), KEYS()))
    again = np.asarray(run(images['x'], jax.random.split(jax.random.key(3), COUNT)))
    for another in (changed, again):  # what is known changes the rest, and so does the noise
        assert (another[:, :, 4:] != found[:, :, 4:]).any()


def label(batch):
    return {'label': batch['label']}


def test_known_places_of_each_grid_keep_their_codes(made, images):
    prior, variables = made['masked']
    codes = prior.tokenizer.encode({}, images)
    drawn = jax.jit(lambda keys: priors.draw(prior, variables, keys, label(images), codes, LEFT))
    found, other = drawn(KEYS()), drawn(jax.random.split(jax.random.key(3), COUNT))
    for name, columns in (('top', 1), ('bottom', 2)):
        np.testing.assert_array_equal(found[name][:, :, :columns], codes[name][:, :, :columns])
        assert (found[name][:, :, columns:] != other[name][:, :, columns:]).any()


def test_finer_grids_are_drawn_again_under_the_same_coarse_grid(made, images):
    prior, variables = made['autoregressive']
    run = jax.jit(lambda x, keys: priors.redraw(prior, variables, {**images, 'x': x}, keys, label(images)))
    found, again = (np.asarray(run(images['x'], keys)) for keys in (KEYS(), jax.random.split(jax.random.key(3), COUNT)))
    top = np.asarray(prior.tokenizer.encode({}, images)['top'])
    for image in (found, again):
        np.testing.assert_array_equal(image[:, ::4, ::4, 0] // 10, top)
    assert (found % 10 != again % 10).any()
    changed = np.asarray(run(-images['x'], KEYS()))
    assert (changed % 10 != found % 10).any()  # the bottom grid depends on the top grid


def test_samples_come_with_the_likelihood_of_all_their_codes():
    """The probabilities of all codes of two grids sum to one, and a sample has that of its codes."""
    prior, variables = make('autoregressive', tokenizer(1, 2, 2))
    every = np.array([*itertools.product(range(5), *[range(2)] * 4)])
    codes = {'top': every[:, :1].reshape(-1, 1, 1), 'bottom': every[:, 1:].reshape(-1, 2, 2)}
    batch = {**codes, 'label': np.ones(len(every), np.int32)}
    log_p = jax.jit(
        lambda batch: priors.log_likelihood(prior, variables, batch, jax.random.split(jax.random.key(0), 80))
    )
    table = np.asarray(log_p(batch))
    np.testing.assert_allclose(np.exp(table).sum(), 1, rtol=1e-5)
    keys = jax.random.split(jax.random.key(4), 4000)
    given = {'label': jnp.ones(len(keys), jnp.int32)}
    drawn, found, alone = jax.jit(lambda: priors.sample_with_likelihood(prior, variables, keys, given))()
    digits = np.asarray(drawn)[:, ::2, ::2, 0].reshape(-1, 4).astype(int)
    number = (digits[:, 0] // 10) * 16 + (digits % 10) @ [8, 4, 2, 1]
    np.testing.assert_allclose(found, table[number], rtol=1e-4)
    null = np.full(len(every), prior.conditions.classes, np.int32)
    np.testing.assert_allclose(alone, np.asarray(log_p({**batch, 'label': null}))[number], rtol=1e-4)
    np.testing.assert_allclose(np.bincount(number, minlength=80) / len(keys), np.exp(table), atol=0.03)


def test_measures_of_codes_have_names_of_their_own(made, images):
    for family, name in (('autoregressive', 'nll_codes'), ('masked', 'nll_codes_bound')):
        prior, variables = made[family]
        batch = {**prior.tokenizer.encode({}, images), **label(images)}
        assert {*jax.eval_shape(lambda: priors.measure(prior, variables, batch, KEYS()))} == {name}
