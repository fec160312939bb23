"""Named streams: every use of a key has noise of its own, example by example."""

import zlib

import jax
import numpy as np
from scipy import stats

from genlab import noise

KEYS = jax.random.split(jax.random.key(0), 400)


def test_names_and_numbers_give_independent_noise():
    draws = [
        np.asarray(noise.normal(KEYS, (5,), name, number)).ravel() for name in ('solver', 'class') for number in (0, 5)
    ]
    assert all(stats.kstest(draw, 'norm').pvalue > 1e-3 for draw in draws)
    correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert (abs(correlations) < 4 / np.sqrt(2000)).all()


def test_noise_depends_on_the_key_of_its_example_alone():
    whole = noise.uniform(KEYS, (3,), 'time')
    np.testing.assert_array_equal(noise.uniform(KEYS[7:9], (3,), 'time'), whole[7:9])
    assert (whole >= 0).all() and (whole < 1).all() and len(np.unique(whole)) == whole.size


def test_uses_of_models_do_not_collide():
    """The CRC-32 of all names in the code differ from each other and from the small numbers that are folded in."""
    import pathlib
    import re

    root = pathlib.Path(noise.__file__).parent
    text = ''.join(path.read_text() for path in root.rglob('*.py'))
    names = set(re.findall(r"(?:stream|normal|uniform|look_at)\([^\n]*?'(\w+)'", text))
    assert {'solver', 'class', 'bound_noise', 'dropout', 'first_step'} <= names
    codes = {zlib.crc32(name.encode()) for name in names}
    assert len(codes) == len(names) and min(codes) > 10**4


def test_bits_and_decisions_are_jax_s_own():
    for implementation in ('threefry2x32', 'rbg'):
        keys = jax.random.split(jax.random.key(3, impl=implementation), 2)

        @jax.jit
        def both(keys):
            own = [noise.bits(keys, (3, 7)), noise.bits(keys, ())]
            own += [noise.bernoulli(keys, probability, (40, 40)) for probability in (0.1, 1 - 0.1, 1 / 3, 1.0)]
            each = lambda draw: jax.vmap(draw)(keys)
            theirs = [each(lambda key, shape=shape: jax.random.bits(key, shape)) for shape in ((3, 7), ())]
            for probability in (0.1, 1 - 0.1, 1 / 3, 1.0):
                theirs.append(each(lambda key, p=probability: jax.random.bernoulli(key, p, (40, 40))))
            return own, theirs

        for own, theirs in zip(*both(keys)):
            np.testing.assert_array_equal(own, theirs)


def test_keys_and_draws_are_jax_s_own():
    for implementation in ('threefry2x32', 'rbg'):
        keys = jax.random.split(jax.random.key(3, impl=implementation), 5)

        @jax.jit
        def both(keys):
            own = [noise.normal(keys, (3, 7), 'name', 2), noise.uniform(keys, (), 'name')]
            own += [jax.random.key_data(noise.fold_in(keys[0], jax.numpy.arange(4)))]
            named = jax.vmap(lambda key: jax.random.fold_in(key, np.uint32(zlib.crc32(b'name'))))(keys)
            folded = lambda number: jax.vmap(lambda key: jax.random.fold_in(key, number))(named)
            theirs = [jax.vmap(lambda key: jax.random.normal(key, (3, 7)))(folded(2))]
            theirs += [jax.vmap(jax.random.uniform)(folded(0))]
            theirs += [jax.random.key_data(jax.vmap(jax.random.fold_in, (None, 0))(keys[0], jax.numpy.arange(4)))]
            return own, theirs

        for own, theirs in zip(*both(keys)):
            np.testing.assert_array_equal(own, theirs)
