"""Tests plans: the figures of a step that is compiled only."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from genlab import experiment
from genlab.config import small
from genlab.errors import UserError
from genlab.networks.diffusion.dit import DiT
from genlab.run.describe import describe, totals
from genlab.training import parallel, plan
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
def test_a_plan_for_absent_tpus(placement, capfd):
    found = planned(placement, 'v5e:4x4')
    assert 'WARNING' not in capfd.readouterr().err
    assert found.devices == 16 and found.kind == 'TPU v5 lite' and plan.fits(found)
    assert 'all-reduce' in found.collectives and 'fits' in plan.table(found, 1)


@pytest.mark.skipif(importlib.util.find_spec('libtpu') is not None, reason="the extra 'tpu' is there")
def test_a_topology_without_its_compiler_names_the_package_to_install():
    with pytest.raises(UserError, match=r"pip install -e '.\[tpu\]'"):
        planned('pmap', 'v5e:4x4')


LOOPS = """
HloModule step
%forward.1 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %gather.1 = f32[16]{0} all-gather(%x), channel_id=1, dimensions={0}
  %more = f32[16]{0} fusion(%x), kind=kCustom, calls=%again
}
%again (p: f32[8]) -> f32[16] {
  %gather.2 = f32[16]{0} all-gather(%x), channel_id=1, dimensions={0}
}
%backward (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %reduce = f32[8]{0} all-reduce(%x), channel_id=2, to_apply=%add
}
%limit (p: (s32[], f32[8])) -> pred[] {
  %c = s32[]{:T(128)} constant(28)
}
%add (a: f32[], b: f32[]) -> f32[] {
}
ENTRY %main (p: f32[8]) -> f32[8] {
  %one = (s32[], f32[8]) while(%t), condition=%limit, body=%forward.1
  %two = (s32[], f32[8]) while(%u), condition=%add, body=%backward, backend_config={"known_trip_count":{"n":"28"}}
  %last = f32[2]{0} all-reduce(%y), channel_id=3, to_apply=%add
}"""


def test_a_collective_in_a_loop_counts_once_per_pass_and_a_split_one_once():
    calls, loops, sent = plan.count_collectives(LOOPS, 4)
    assert calls == {'all-gather': (28, 28 * 64), 'all-reduce': (29, 28 * 32 + 8)}
    assert loops == {28: {'all-gather': (1, 64), 'all-reduce': (1, 32)}}
    assert sent == 3 / 4 * (28 * 64 + 2 * (28 * 32 + 8))


def test_operands_of_asynchronous_collectives_do_not_count():
    text = """ENTRY %main (p: f32[8]) -> f32[8] {
      %one = (f32[4]{0}, f32[16]{0}) all-gather-start(%x), channel_id=1, dimensions={0}
      %two = ((f32[4]{0}, f32[2]{0}), (f32[16]{0}, f32[8]{0})) all-gather-start(%x, %y), channel_id=2, dimensions={0}
      %three = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%z), channel_id=3
      %four = (f32[8]{0}, f32[2]{0}) all-reduce-start(%z, %w), channel_id=4, to_apply=%add
      %five = (f32[], f32[], u32[], u32[]) collective-permute-start(%s), channel_id=5
}"""
    calls, _, _ = plan.count_collectives(text, 4)
    assert calls == {'all-gather': (2, 64 + 96), 'collective-permute': (2, 32 + 4), 'all-reduce': (1, 40)}


def test_under_fsdp_weights_travel_and_activations_stay(monkeypatch):
    """Without constraints this network needs all-to-all and collective-permute as well."""
    monkeypatch.setattr(parallel, 'SHARD_FROM', 512)  # kernels, no biases
    network, placement = DiT(1, patch=2, width=16, depth=3, heads=2), parallel.place('fsdp')

    def call(variables, batches, constants):
        def loss(params):
            x, level = batches['x'][0, 0], batches['level'][0, 0]
            return jnp.square(network.apply({**variables, 'params': params}, x, level, True) - x).mean() + constants

        gradients = jax.grad(loss)(variables['params'])
        return {**variables, 'params': jax.tree.map(jnp.subtract, variables['params'], gradients)}

    x, level = jnp.zeros((8, 8, 8, 1)), jnp.zeros(8)
    state = parallel.template(placement, jax.eval_shape(lambda: network.init(jax.random.key(0), x, level, True)))
    batches = placement.shapes({'x': x[None, None], 'level': level[None, None]})
    compiled = placement.compile(call, state).lower(state, batches, jnp.zeros(())).compile()
    calls, loops, _ = plan.count_collectives(compiled.as_text(), 4)
    assert {*calls} == {'all-gather', 'all-reduce'}
    assert loops[3]['all-gather'][0] == 2 * 5 and loops[3]['all-reduce'][0] == 1  # five kernels per block


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


def test_each_pass_of_a_loop_counts():
    """A product of matrices, and a loop of 3 around a loop of 7 of them: 22 times 2 n^3 operations."""
    size = 32

    def inner(x, _):
        return x @ x, None

    def outer(x, _):
        return jax.lax.scan(inner, x, None, length=7)[0], None

    compiled = jax.jit(lambda x: jax.lax.scan(outer, x @ x, None, length=3)[0]).lower(jnp.ones((size, size))).compile()
    cost = compiled.cost_analysis()
    once = plan.Cost(cost['flops'], cost['bytes accessed'])
    whole = plan.count_passes(compiled.as_text(), once)
    assert whole.flops == pytest.approx(22 * 2 * size**3, rel=0.01) and once.flops < whole.flops / 2
    assert whole.accessed > 21 * 3 * 4 * size**2 * 0.6 > once.accessed


def test_what_a_device_sends_depends_on_the_devices_that_take_part():
    lines = (
        ('all-reduce', '', 2 * 7 / 8),  # all devices
        ('all-reduce', ', replica_groups={}', 2 * 7 / 8),
        ('all-gather', ', replica_groups=[2,4]<=[8]', 3 / 4),
        ('all-to-all', ', replica_groups={{0,1},{2,3},{4,5},{6,7}}', 1 / 2),
        ('reduce-scatter', ', replica_groups=[4,2]<=[2,4]T(1,0)', 1),
        ('collective-permute', ', source_target_pairs={{0,1},{1,0}}', 1),
    )
    for kind, groups, share in lines:
        text = f'ENTRY %main (p: f32[8]) -> f32[8] {{\n  %one = f32[8]{{0}} {kind}(%x), channel_id=1{groups}\n}}'
        assert plan.count_collectives(text, 8)[2] == 32 * share


def fixed(**changes):
    """Returns a plan of 4 chips with round numbers, of a call of 2 steps."""
    values = dict.fromkeys(plan.Plan._fields[2:8], 0.0)
    known = {
        'collectives': {},
        'loops': {},
        'sent': 7e9,
        'memory': 2**30,
        'whole': plan.Cost(394e12, 819e9),
        'steps': 2,
    }
    return plan.Plan(**{'devices': 4, 'kind': 'TPU v5 lite', **values, **known, **changes})


def test_the_least_time_of_a_step_is_that_of_its_slowest_part():
    found = plan.estimate(fixed())
    assert found == pytest.approx((1.0, 0.5, 7e9 / 200e9 / 2))
    assert (found.seconds, found.limit) == (1.0, 'arithmetic')
    assert '1e+03 ms (arithmetic 1e+03, memory 500, links 17.5)' in plan.table(fixed(), 1)
    assert plan.estimate(fixed(whole=plan.Cost(0.0, 8190e9))).limit == 'memory'
    assert plan.estimate(fixed(kind='TPU v3')) is None and plan.estimate(fixed(whole=None)) is None


def test_two_cores_share_the_memory_and_the_rates_of_a_chip():
    one, two = plan.estimate(fixed()), plan.estimate(fixed(cores=2))
    assert two == pytest.approx([2 * seconds for seconds in one])
    device = lambda core: type('Device', (), {'device_kind': 'TPU v4', 'core_on_chip': core})()
    assert plan._memory([device(0), device(0)]) == 2 * plan._memory([device(0), device(1)]) == 32 * 2**30


def test_the_reason_of_a_step_that_does_not_fit_is_a_whole_sentence():
    text = 'RESOURCE_EXHAUSTED: XLA: Ran out of memory on HBM: 28.5G is needed, of 15.7G. The largest are'
    assert plan._reason(text) == 'Ran out of memory on HBM: 28.5G is needed, of 15.7G.'
