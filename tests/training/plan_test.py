"""Tests plans: the figures of a step that is compiled only."""

import importlib.util

import pytest

from genlab import experiment
from genlab.config import small
from genlab.errors import UserError
from genlab.run.describe import describe, totals
from genlab.training import plan
from support.runs import FILES, module_of

DCGAN = next(path for path in FILES if path.stem == 'dcgan')
tpu = pytest.mark.skipif(importlib.util.find_spec('libtpu') is None, reason="needs the extra 'tpu'")


def config_for(placement, path=DCGAN):
    config = small(module_of(path).get_config())
    config.placement, config.data.batch_size = placement, 32
    return config


def planned(placement, topology=None):
    config = config_for(placement)
    return plan.plan(config, experiment.load(config.experiment), topology)


def test_a_plan_for_these_devices():
    config = config_for('pmap')
    found = planned('pmap')
    parameters = sum(totals(describe(config, experiment.load(config.experiment))).values())
    assert found.devices == 4 and found.flops > 0 and found.accessed > 0 and found.memory is None
    assert 'all-reduce' in found.collectives
    assert (
        found.donated >= 4 * 3 * parameters
    )  # float32 parameters and Adam's two moments take the place of the old ones
    assert (
        found.needed
        == found.arguments + found.outputs - found.donated + found.temporaries
        < 2 * found.arguments + 2**24
    )
    assert f'{found.flops / 1e9:,.2f} GFLOP a step' in plan.table(found, 1)


@tpu
@pytest.mark.parametrize('placement', ['pmap', 'fsdp'])
def test_a_plan_for_absent_tpus(placement):
    found = planned(placement, 'v5e:4x4')
    assert found.devices == 16 and found.kind == 'TPU v5 lite' and plan.fits(found)
    assert 'all-reduce' in found.collectives and 'fits' in plan.table(found, 1)


@pytest.mark.skipif(importlib.util.find_spec('libtpu') is not None, reason="the extra 'tpu' is there")
def test_a_topology_without_its_compiler_names_the_package_to_install():
    with pytest.raises(UserError, match=r"pip install -e '.\[tpu\]'"):
        planned('pmap', 'v5e:4x4')


def test_collectives_are_read_from_compiled_text():
    text = """
      %all-reduce.1 = (f32[64,32]{1,0}, bf16[8]{0}) all-reduce(%a, %b), replica_groups={}
      %start = f32[16]{0:T(128)} all-reduce-start(%c), channel_id=1
      %done = f32[16]{0} all-reduce-done(%start)
      ROOT %g = pred[4,4]{1,0} all-gather(%d), dimensions={0}"""

    class Compiled:
        memory_analysis = lambda self: type(
            'M',
            (),
            dict.fromkeys(
                ('argument_size_in_bytes', 'output_size_in_bytes', 'alias_size_in_bytes', 'temp_size_in_bytes'), 1
            ),
        )
        cost_analysis = lambda self: {}
        as_text = lambda self: text

    device = type('Device', (), {'device_kind': 'TPU v4'})()
    found = plan.read(Compiled(), [device])
    assert found.collectives == {'all-reduce': (2, 64 * 32 * 4 + 8 * 2 + 16 * 4), 'all-gather': (1, 16)}
    assert found.memory == 32 * 2**30 and plan.fits(found)
