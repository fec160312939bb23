"""A strict set-up for every test: four virtual devices, no silent rank promotion, one compilation cache."""

import atexit
import importlib.metadata
import os
import pathlib
import shutil
import tempfile

os.environ['JAX_PLATFORMS'] = 'cpu'
# Shapes are tiny: most of the time goes into compiling, so it is made cheap. XLA refuses flags that it does not know.
os.environ['XLA_FLAGS'] = ' '.join(
    [
        os.environ.get('XLA_FLAGS', ''),
        '--xla_force_host_platform_device_count=4',
        '--xla_backend_optimization_level=0',
        # Four devices on few cores: a device that waits long for another is slow or paused, and no reason to abort.
        '--xla_cpu_collective_call_terminate_timeout_seconds=1800',
        '--xla_cpu_use_fusion_emitters=false' if importlib.metadata.version('jaxlib') < '0.12' else '',
    ]
)
if 'PYTEST_XDIST_WORKER' not in os.environ:  # the workers of `-n 2` share the folder: one trained classifier serves all
    os.environ['GENLAB_CACHE'] = tempfile.mkdtemp(prefix='genlab-tests-')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = os.path.join(os.environ['GENLAB_CACHE'], 'jax')  # subprocesses share it
    atexit.register(shutil.rmtree, os.environ['GENLAB_CACHE'], ignore_errors=True)

import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


# What trains, starts processes or compiles whole models. All other tests get the mark `quick`.
LONG = (
    'battery_test.py',
    'configs_test.py',
    'learning_test.py',
    'main_test.py',
    'diffusion/ode_test.py',
    'evaluation/evaluation_test.py',
    'evaluation/evaluators_test.py',
    'experiments/',
    'latents/explore_test.py',
    'models/',
    'networks/adversarial/',
    'networks/autoregressive/',
    'networks/diffusion/',
    'sweep/vmapped_test.py',
    'training/loop_test.py',
    'training/own_step_test.py',
    'training/parallel_test.py',
    'training/phases_test.py',
    'training/plan_test.py',
)


def pytest_collection_modifyitems(items):
    """Marks the quick tests, for `python -m pytest -m quick`."""
    for item in items:
        path = item.path.relative_to(pathlib.Path(__file__).parent).as_posix()
        if not path.startswith(LONG) and not item.get_closest_marker('slow'):
            item.add_marker(pytest.mark.quick)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 2` a file stays with one process, for its fixtures, and of the battery a config."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFixtures(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            module, _, test = nodeid.partition('::')
            return test.partition('[')[2] or module if module.endswith('battery_test.py') else module

    return ByFixtures(config, log)
