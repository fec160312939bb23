"""Tests that one device, pmap over four, FSDP over four and two processes give the same numbers."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from genlab.config import small
from genlab.errors import PREEMPTED, ConfigError, UserError
from genlab.run import processes
from genlab.training import parallel
from support.runs import FILES, Trained, module_of, with_sgd

FAMILIES = {  # experiment -> the config that stands for it; models/cycle_test.py has instance normalisation
    'gan': 'dcgan',
    'autoencoder': 'sparse_ae',
    'variational': 'vae',
    'adversarial_autoencoder': 'adversarial_ae',
    'one_step': 'meanflow:moons',
    'vq_vae': 'vq_vae',
}


def plain(path, variant=''):
    """Returns a small config with SGD: Adam turns rounding into +-lr where a gradient is zero."""
    return with_sgd(small(module_of(path).get_config(variant)))


@pytest.mark.parametrize('name', FAMILIES.values())
def test_placements_agree(name):
    name, _, variant = name.partition(':')
    path = next(path for path in FILES if path.stem == name)
    config = plain(path, variant)
    runs = [Trained(config, 'pmap', jax.devices()[:1]), Trained(config, 'pmap'), Trained(config, 'fsdp')]
    one, *others = [jax.device_get(run.run((run.start, run.zero), 0, 3)) for run in runs]
    for other in others:
        for (where, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other)):
            np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5, err_msg=jax.tree_util.keystr(where))


def test_tensor_parallel_products_have_the_numbers_of_one_device(monkeypatch):
    """A transformer over 2x2 devices: two parts of the batch, two parts of every product."""
    monkeypatch.setattr(parallel, 'SHARD_FROM', 64)
    path = next(path for path in FILES if path.stem == 'pixelcnn')
    config = with_sgd(small(module_of(path).get_config('transformer')), 1e-3)
    config.model.network.update(width=16, depth=2, heads=2)
    one, split = Trained(config, 'fsdp', jax.devices()[:1]), Trained(config, 'fsdp', tensor=2)
    block, text = split.start.params['prior']['stack']['blocks'], split.compiled.as_text()
    for name, spec in (('hidden', (None, 'batch', 'tensor')), ('hidden_output', (None, 'tensor', 'batch'))):
        assert block[name]['kernel'].sharding.spec == PartitionSpec(*spec)
    assert 'f32[16,32]' in text and 'f32[16,64]' not in text  # a device multiplies by half of the hidden units
    results = [jax.device_get(run.run((run.start, run.zero), 0, 3)) for run in (one, split)]
    for (where, a), b in zip(jax.tree.leaves_with_path(results[0]), jax.tree.leaves(results[1])):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5, err_msg=jax.tree_util.keystr(where))


def test_fsdp_splits_the_largest_axis_that_divides():
    shapes = {
        'large': jax.ShapeDtypeStruct((3, 256, 512), np.float32),
        'second': jax.ShapeDtypeStruct((3, 512, 256), np.float32),
        'square': jax.ShapeDtypeStruct((256, 256), np.float32),
        'odd': jax.ShapeDtypeStruct((257, 513), np.float32),
        'small': jax.ShapeDtypeStruct((4, 4), np.float32),
    }

    def specs(tensor):
        placement = parallel.sharded(jax.devices(), tensor)
        return {name: tuple(sharding.spec) for name, sharding in placement.shardings(shapes).items()}

    assert specs(1) == {
        'large': (None, None, 'batch'), 'second': (None, 'batch', None), 'square': ('batch', None),
        'odd': (), 'small': (),
    }  # fmt: skip
    assert specs(2) == {
        'large': (None, 'batch', 'tensor'), 'second': (None, 'tensor', 'batch'), 'square': ('batch', 'tensor'),
        'odd': (), 'small': (),
    }  # fmt: skip


def test_initial_state_is_the_same_and_laid_out():
    def make():
        return {'w': jax.random.normal(jax.random.key(0), (256, 256))}

    whole, split = (parallel.initial(parallel.place(name), make)['w'] for name in ('pmap', 'fsdp'))
    assert whole.addressable_shards[0].data.shape == (256, 256) and split.addressable_shards[0].data.shape == (64, 256)
    np.testing.assert_array_equal(whole, split)


@pytest.mark.parametrize('name', ['pmap', 'fsdp'])
def test_runs_of_any_device_count_agree_with_one_device(name):
    placement, function = parallel.place(name), jax.jit(lambda variables, x: variables['w'] * x)
    variables = parallel.replicate(placement, {'w': np.float32(3)})
    for count in (8, 5):
        x = np.arange(count, dtype=np.float32)
        np.testing.assert_array_equal(parallel.run(placement, function, variables, x), 3 * x)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(
        ConfigError, match='batch_size=6 does not divide over 4 devices x 1 microbatches: take a multiple of 4'
    ):
        parallel.process_rows(6, 4)
    with pytest.raises(ConfigError, match='a multiple of 8'):
        parallel.process_rows(12, 4, 2)


def test_processes_that_share_a_part_of_a_batch_load_the_same_rows(monkeypatch):
    monkeypatch.setattr(jax, 'process_count', lambda: 4)
    for parts, starts in ((8, [0, 4, 8, 12]), (4, [0, 4, 8, 12]), (2, [0, 0, 8, 8]), (1, [0, 0, 0, 0])):
        for process, start in enumerate(starts):
            monkeypatch.setattr(jax, 'process_index', lambda: process)
            assert parallel.process_rows(16, parts) == slice(start, start + 16 // min(parts, 4))


def test_an_unknown_placement_and_a_missing_device_are_refused():
    with pytest.raises(ConfigError, match="config.placement='ddp': choose one of pmap, fsdp"):
        parallel.place('ddp')
    with pytest.raises(ConfigError, match='config.tensor=3 does not divide the 4 devices: take a divisor of them'):
        parallel.place('fsdp', tensor=3)
    with pytest.raises(ConfigError, match='config.tensor=2 needs config.placement=fsdp'):
        parallel.place('pmap', tensor=2)
    with pytest.raises(UserError, match='--require=gpu, but JAX sees only cpu'):
        parallel.start('', None, None, 'gpu', 20)


@pytest.mark.parametrize(
    'error, platforms, words',
    [
        (AssertionError(), 'cuda', r'\(none is there\): unset JAX_PLATFORMS=cuda, or install'),
        (RuntimeError('no\ndriver'), '', r'\(no driver\): set JAX_PLATFORMS=cpu, or install'),
    ],
)
def test_a_device_that_does_not_open_is_explained(error, platforms, words, monkeypatch):
    def devices():
        raise error

    monkeypatch.setattr(jax, 'devices', devices)
    monkeypatch.setenv('JAX_PLATFORMS', platforms)
    with pytest.raises(UserError, match=words):
        parallel.start('', None, None, '', 20)


def test_calls_in_flight_are_bounded_and_the_devices_never_drained(monkeypatch):
    """XLA's CPU client stops for ever at 32 computations in flight, where processes have several devices each."""
    throttle, done, most = parallel.Throttle(), 0, 0

    def wait(mark):
        nonlocal done
        done = 0 if mark is None else int(mark)

    monkeypatch.setattr(parallel.jax, 'block_until_ready', wait)
    for call in range(1, 101):
        most = max(most, call - done)
        throttle(jax.numpy.asarray(call))
        assert done < call
    assert parallel.IN_FLIGHT // 2 < most <= parallel.IN_FLIGHT < 32


DIES = """
import os, signal
from genlab import main
from genlab.training import loop
between = loop.Loop.between
def last(run):
    if run.step == 4:
        run.checkpoints.wait()
        os.kill(os.getpid(), signal.SIGKILL)
    between(run)
loop.Loop.between = last
main.main()
"""


def launch(folder, steps, devices, *more, program=('-m', 'genlab.main')):
    """Starts `python -m genlab.main` on a tiny GAN of points in a separate process."""
    flags = f'--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0'
    environment = {**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
    root = pathlib.Path(__file__).parents[2]
    return subprocess.Popen(
        [
            sys.executable,
            *program,
            '--config=configs/gan.py',
            f'--workdir={folder}',
            '--debug',
            '--config.data.resident=False',
            '--config.data.batch_size=8',
            '--config.model.networks.features=(8,)',
            '--config.train.steps_per_call=1',
            '--config.train.log_every=1',
            f'--config.train.steps={steps}',
            '--config.checkpoint.every=3',
            '--config.train.evaluate_every=0',
            '--config.sample.count=4',
            '--config.sample.chunk=4',
            '--config.optimizer.generator.learning_rate=1e-4',
            '--config.optimizer.discriminator.learning_rate=1e-4',
            *more,
        ],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def curve(folder):
    from genlab.run.logs import read_metrics

    rows = [row for row in read_metrics(folder) if 'seconds' in row]  # without the figures of samples
    return {row['step']: [row[name] for name in sorted(row) if '/' in name] for row in rows}


def test_two_processes_of_two_devices(tmp_path):
    """Trains and saves in two processes, and kills one: the other ends in order.

    One process of one device continues with the numbers of one device.
    """
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    together = f'--coordinator=localhost:{port}', '--processes=2', '--config.train.heartbeat=5'
    pair = [
        launch(tmp_path / 'two', 5, 2, *together, f'--process_id={number}', program=program)
        for number, program in enumerate((('-m', 'genlab.main'), ('-c', DIES)))
    ]
    alone = launch(tmp_path / 'one', 5, 1)
    outputs = [process.communicate(timeout=300)[0] for process in (*pair, alone)]
    assert [process.returncode for process in (*pair, alone)] == [PREEMPTED, -signal.SIGKILL, 0], '\n'.join(outputs)
    assert outputs[0].splitlines()[-1] == f'genlab: {processes.LINE}', outputs
    assert 'Traceback' not in outputs[0] and 'coordination' not in outputs[0], outputs
    output = launch(tmp_path / 'two', 5, 1).communicate(timeout=300)[0]
    assert 'continuing from step 3' in output
    one, two = curve(tmp_path / 'one'), curve(tmp_path / 'two')
    assert sorted(one) == sorted(two) == [1, 2, 3, 4, 5]
    for step in one:
        np.testing.assert_allclose(one[step], two[step], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_in_other_layouts(tmp_path):
    """One process of four devices, two of two, and one of one: the curve is that of one device throughout.

    With tensor=4, the devices of both processes share all rows.
    """

    def run(name, steps, processes, devices, *more):
        more = ['--config.checkpoint.every=2', '--config.train.heartbeat=600', *more]  # the machine may be busy
        if processes > 1:
            with socket.socket() as free:
                free.bind(('localhost', 0))
                more += [f'--coordinator=localhost:{free.getsockname()[1]}', f'--processes={processes}']
        place = lambda number: [f'--process_id={number}'] * (processes > 1)
        started = [launch(tmp_path / name, steps, devices, *more, *place(number)) for number in range(processes)]
        outputs = [process.communicate(timeout=1800)[0] for process in started]
        assert [process.returncode for process in started] == [0] * processes, outputs
        return outputs[0]

    run('elastic', 2, 1, 4)
    assert 'continuing from step 2' in run('elastic', 4, 2, 2)
    assert 'continuing from step 4' in run('elastic', 6, 1, 1)
    for steps, tensor in ((8, 4), (10, 2)):
        split = run('elastic', steps, 2, 2, '--config.placement=fsdp', f'--config.tensor={tensor}')
        assert f'continuing from step {steps - 2}' in split
    run('one', 10, 1, 1)
    one, other = curve(tmp_path / 'one'), curve(tmp_path / 'elastic')
    assert sorted(one) == sorted(other) == list(range(1, 11))
    for step in one:
        np.testing.assert_allclose(one[step], other[step], atol=1e-4, rtol=1e-4)
