"""Small runs that several test files share: every config file, and a config trained for a few calls."""

import importlib.util
import pathlib
import zlib

import jax
import numpy as np

from genlab import data, experiment
from genlab.training import parallel, totals
from genlab.training.optimizers import sgd
from genlab.training.program import fold, load, make_call, make_constants, make_init, metric_names, programs

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted((ROOT / 'configs').glob('*.py'))


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolved(config):
    """Returns the config with the numbers of classes and words that `programs` would take from its data."""
    data.resolve(config, data.declared(config.data), measure=False)
    return config


def made_up(init):
    """Returns the state of `init` with random parameters, on the host. To compile their initialisers takes long.

    Parameters depend on their path. They are scaled by their fan-in, and no layer starts at zero. The vectors of
    spectral normalisation are random too, of norm 1: their first iterations would need all initialisers. An experiment
    with a step of its own keeps its parameters: they may have to be positive, or to sum to 1."""
    shapes = jax.eval_shape(init)
    if not shapes.optimizer:
        return jax.device_get(jax.jit(init)())

    def draw(path, leaf):
        return np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode())).standard_normal(leaf.shape)

    def parameter(path, leaf):
        scale = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
        return (draw(path, leaf) * scale).astype(leaf.dtype)

    def unit(path, leaf):
        vector = draw(path, leaf)
        return (vector / np.linalg.norm(vector)).astype(leaf.dtype)

    def cheap():
        state = init()
        stats = {name: {k: v for k, v in kinds.items() if k != 'spectral'} for name, kinds in state.stats.items()}
        return state.replace(params={}, average={}, stats=stats)

    params = jax.tree_util.tree_map_with_path(parameter, shapes.params)
    vectors = {name: {'spectral': kinds['spectral']} for name, kinds in shapes.stats.items() if 'spectral' in kinds}
    vectors = jax.tree_util.tree_map_with_path(unit, vectors)
    rest = jax.device_get(jax.jit(cheap)())
    stats = {name: {**kinds, **vectors.get(name, {})} for name, kinds in rest.stats.items()}
    average = {network: jax.tree.map(np.copy, params[network]) for network in shapes.average}
    return rest.replace(params=params, average=average, stats=stats)


def with_sgd(config, rate=0.05, **options):
    """Replaces all optimizers of a config by SGD, in place, and returns it. It compiles faster than Adam."""
    with config.unlocked():
        for player in config.optimizer:
            config.optimizer[player] = sgd(rate, **options)
    return config


class Trained:
    """A small run of a config on one placement: the state at the start, after two calls and after four."""

    def __init__(self, config, placement_name='pmap', devices=None, tensor=1):
        self.config = config.copy_and_resolve_references()
        self.config.placement = placement_name
        build = experiment.load(config.experiment)
        self.placement = parallel.place(placement_name, devices or jax.devices(), tensor)
        self.program = programs(self.config, build, self.placement)[0]
        self.start = parallel.replicate(self.placement, made_up(make_init(self.program)))
        if placement_name != 'pmap':
            self.start = jax.device_put(self.start, self.placement.shardings(self.start))
        names = metric_names(self.program, self.placement, self.start)
        self.zero = parallel.replicate(self.placement, totals.zero(names))
        self.constants = parallel.replicate(self.placement, make_constants(self.program))
        carry = self.start, self.zero
        self.compiled = (
            self.placement.compile(make_call(self.program), carry).lower(carry, self.batch(0), self.constants).compile()
        )

    def batch(self, call):
        steps, turns = self.program.calls
        rows = parallel.process_rows(self.config.data.batch_size, self.placement.parts)
        return self.placement.put(fold(self.program, load(self.program, call * steps * turns, steps * turns, rows)))

    def run(self, carry, first, count):
        """`count` calls from call `first` on. The carry given stays: it is copied before it is donated.

        It waits for the end, so that copies and compilation never run beside collectives of four devices."""
        carry = jax.tree.map(lambda leaf: leaf.copy(), carry)
        for call in range(first, first + count):
            carry = self.compiled(carry, self.batch(call), self.constants)
        return jax.block_until_ready(carry)
