"""Tests hidden Markov models as an experiment: placements and parts of a batch, abilities, and refusals."""

import jax
import numpy as np
import pytest

from genlab import experiment
from genlab.choices import named
from genlab.config import small
from genlab.data.sources.sequences import sequences
from genlab.errors import ConfigError
from genlab.models import hmm
from genlab.sampling import drawing
from support.runs import FILES, Trained, module_of

(FILE,) = (path for path in FILES if path.stem == 'hmm')


def config_of(variant='', **model):
    config = small(module_of(FILE).get_config(variant))
    config.model.update(model)
    return config


@pytest.fixture(scope='module')
def placed():
    """The columns of digits, fitted on one device, and on four in two ways, one of them in parts of the batch."""
    found = {}
    for name, devices, parts in (('fsdp', jax.devices()[:1], 2), ('pmap', None, 1), ('fsdp', None, 1)):
        config = config_of('digits', states=3, emission=named('gaussian', covariance='diagonal'))
        config.train.update(microbatches=parts, steps_per_call=1)
        config.data.resident = False
        run = Trained(config, name, devices)
        found[name, parts] = run, *run.run((run.start, run.zero), 0, 2)
    return found


def test_the_numbers_do_not_depend_on_devices_and_parts_of_a_batch(placed):
    (_, one, sums), *others = placed.values()
    for _, other, others_sums in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one.params, other.params)
        np.testing.assert_allclose(sums['hmm/nll'].sum, others_sums['hmm/nll'].sum, rtol=1e-5)


def test_codes_are_posteriors_and_decode_to_expected_observations(placed):
    run, state, _ = placed['pmap', 1]
    model, hidden = run.program.experiment, hmm.from_config(run.program.config, None)
    variables, batch = jax.device_get(state.variables()), drawing.examples(run.config)(np.arange(4))
    codes = jax.jit(model.codec.encode)(variables, batch)
    assert codes.shape == (4, 16, 3)
    np.testing.assert_allclose(codes.sum(-1), 1, atol=1e-5)
    means = variables['hmm']['params']['emission']['mean']
    np.testing.assert_allclose(model.codec.decode(variables, codes), np.asarray(codes) @ means, atol=1e-5)
    path = np.asarray(jax.jit(lambda *both: hmm.path(hidden, *both))(variables, batch))
    assert (np.asarray(codes).argmax(-1) == path).mean() > 0.9
    measured = jax.eval_shape(model.measure, variables, batch, drawing.keys(0, 0, 4))
    assert [*measured] == ['negative_log_density', 'negative_log_density_per_time']


def test_wrong_settings_are_refused():
    for changes, message in (
        (dict(dtype='bfloat16'), "config.model.dtype='bfloat16': sums over sequences need float32"),
        (dict(emission=named('gaussian', covariance='diag')), "covariance='diag'"),
        (dict(emission=named('poison')), "config.model.emission='poison': .*did you mean poisson"),
        (dict(emission=named('mixture')), 'mixture needs config.model.emission.components'),
    ):
        with pytest.raises(ConfigError, match=message):
            experiment.load('hmm')(config_of(**changes))


def test_a_batch_that_is_not_the_whole_set_is_named(capsys):
    source = sequences('letters')
    for size, warned in ((8, False), (16, False), (4, True), (12, True)):
        hmm.start(None, source, None, batch_size=size)
        assert (f'config.data.batch_size={size} of 8 sequences' in capsys.readouterr().err) == warned
