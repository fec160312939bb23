"""Records what every config computes, to show that a change of the code changes no numbers.

    cd tests && python -m support.numbers --stir --out /tmp/before        (one commit)
    cd tests && python -m support.numbers --stir --out /tmp/after         (another)
    cd tests && python -m support.compare_numbers /tmp/before /tmp/after

Each config and variant is shrunk by `small` and trained by plain SGD on four virtual devices. Several such processes
share the tasks. --out gets one <config>-<variant or 'default'>.npz and .json (the shrunk config) per task; skipped.json
says what is left out and why; errors.log has the exceptions. Files that exist are kept, unless --force is given. --stir
starts where no layer is zero, a much sharper test of the insides of networks.

Keys of an npz:
  init/params/<path>, init/stats/<path>                     before the first step
  metrics/<call>/<player>/<term>                            means over the two steps of each call, through all phases
  final/params/<path>, final/stats/<path>, final/average/<path>
  sample                                                    4 samples, averaged parameters
  measure/<name>, encode, decode, reconstruct/<name>, log_weight, inpaint, redraw, prior
                                                            of held-out examples 0..7, keys(0, 0, 8), parameters not
                                                            averaged
  decode is of the codes of `encode`, or of `prior` where a model cannot encode.
"""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0'

import argparse
import fcntl
import json
import pathlib
import time
import traceback
import zlib
from typing import NamedTuple

import jax
import numpy as np

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)

from genlab import conditioning, experiment  # noqa: E402
from genlab.abilities import Likelihood  # noqa: E402
from genlab.config import small  # noqa: E402
from genlab.latents.explore import masks  # noqa: E402
from genlab.run.workdir import plain  # noqa: E402
from genlab.sampling import drawing  # noqa: E402
from genlab.training import parallel, totals  # noqa: E402
from genlab.training.optimizers import sgd  # noqa: E402
from genlab.training.program import fold, load, make_call, make_constants, make_init, metric_names, programs  # noqa: E402
from support.runs import FILES, module_of  # noqa: E402
from support.tokenizers import with_tokenizer  # noqa: E402

RATES = 1e-2, 1e-3, 1e-4, 1e-5  # of plain SGD, each player's the first with which it does not blow up; the .json has it
EXAMPLES = 8


def shrink(config, rates=None):
    """`small`, with plain SGD for every player and six steps or, where more phases ask for them, more.

    rates: player -> learning rate, where it is not the usual one."""
    config = with_tokenizer(small(config))
    for player in config.optimizer:
        config.optimizer[player] = sgd((rates or {}).get(player, RATES[0]))
    for overlay in config.phases:
        assert not any(key.startswith('optimizer') for key in overlay), overlay
    config.train.steps = max(6, config.train.steps)
    config.train.steps_per_call = 2
    config.placement = 'pmap'
    return config


def identity(config):
    """What of a shrunk config can change a number that is recorded."""
    values = plain(config)
    for part in ('evaluate', 'checkpoint', 'explore'):
        values.pop(part, None)
    for name in ('chunk', 'count'):
        values['sample'].pop(name, None)
    for name in ('log_every', 'sample_every', 'evaluate_every'):
        values['train'].pop(name, None)
    for name in ('dir', 'workers') + (() if values['data']['source'] == 'toy' else ('name',)):
        values['data'].pop(name, None)
    return json.dumps(values, sort_keys=True)


class Task(NamedTuple):
    name: str  # <config>-<variant or 'default'>
    path: pathlib.Path
    variant: str

    def config(self, rates=None):
        return shrink(module_of(self.path).get_config(self.variant), rates)


def plan():
    """(tasks, the default variants first; name -> why it is skipped)."""
    tasks, skipped = [], {}
    for path in FILES:
        module, known = module_of(path), {}
        for variant in ('', *module.VARIANTS):
            task = Task(f'{path.stem}-{variant or "default"}', path, variant)
            config = task.config()
            if config.model.get('first_stage', ''):
                skipped[task.name] = f'needs the run config.model.first_stage={config.model.first_stage!r}'
                continue
            same = known.setdefault(identity(config), task.name)
            if same != task.name:
                skipped[task.name] = f'shrunk it is the same as {same}'
                continue
            tasks.append(task)
    return sorted(tasks, key=lambda task: task.variant != ''), skipped


def flat(tree, prefix):
    """{prefix/key/key/...: numpy array} of a tree of dicts."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(jax.device_get(tree)):
        keys = [str(next(getattr(key, name) for name in ('key', 'name', 'idx') if hasattr(key, name))) for key in path]
        found['/'.join([prefix, *keys])] = np.asarray(leaf)
    return found


def whole(tree):
    """A tree of host arrays."""
    return jax.device_get(tree)


class Run(NamedTuple):
    config: object
    placement: object
    experiment: object  # of the last phase
    state: object  # after the last step, on the devices
    arrays: dict  # init/..., metrics/..., final/...


def stir(state):
    """Adds noise to each array of parameters that is constant, such as the zeros of biases and the ones of norms.

    The noise depends on the path alone. Six steps of SGD show little of what lies before a layer that starts at zero.
    """

    def one(path, leaf):
        if leaf.size < 2 or (leaf != leaf.flat[0]).any():
            return leaf
        chance = np.random.default_rng(zlib.crc32('/'.join(str(key.key) for key in path).encode()))
        scale = 0.5 / np.prod(leaf.shape[:-1]) ** 0.5 if leaf.ndim > 1 else 0.1
        return (leaf + scale * chance.standard_normal(leaf.shape)).astype(leaf.dtype)

    params = jax.tree_util.tree_map_with_path(one, whole(state.params))
    return state.replace(
        params=params, average={network: jax.tree.map(np.copy, params[network]) for network in state.average}
    )


def train(config, stirred=False):
    """All phases in order, a row of means for each call."""
    build = experiment.load(config.experiment)
    placement = parallel.place(config.placement, jax.devices())
    assert placement.parts == 4 and placement.axis
    schedule = programs(config, build, placement)
    state = parallel.initial(placement, make_init(schedule[0]))
    if stirred:
        state = parallel.replicate(placement, stir(whole(state)))
    arrays = {**flat(state.params, 'init/params'), **flat(state.stats, 'init/stats')}
    step = call = 0
    for program in schedule:
        steps, turns = program.calls
        names = metric_names(program, placement, state)
        constants = parallel.replicate(placement, make_constants(program))
        rows = parallel.process_rows(program.config.data.batch_size, placement.parts)

        def batch():
            return placement.put(fold(program, load(program, step * turns, steps * turns, rows)))

        compiled = None
        while step < program.end:
            carry, inputs = (state, parallel.replicate(placement, totals.zero(names))), batch()
            if compiled is None:
                compiled = placement.compile(make_call(program), carry).lower(carry, inputs, constants).compile()
            state, sums = compiled(carry, inputs, constants)
            for name, mean in totals.means(parallel.to_host(sums)).items():
                arrays[f'metrics/{call}/{name}'] = np.asarray(mean)
            step, call = step + steps, call + 1
    assert step == int(state.step) == config.train.steps
    arrays |= {
        **flat(state.params, 'final/params'),
        **flat(state.stats, 'final/stats'),
        **flat(state.average, 'final/average'),
    }
    return Run(config, placement, schedule[-1].experiment, state, arrays)


def samples(run):
    if run.experiment.sampler is None:
        return {}
    return {'sample': drawing.draw(run.experiment, run.placement, run.state.variables(averaged=True), run.config, 4)}


def abilities(run):
    """Returns the abilities' results on eight held-out examples, on one device: they depend on no placement."""
    model, variables = run.experiment, whole(run.state.variables())
    batch = whole(drawing.examples(run.config)(np.arange(EXAMPLES)))
    keys = drawing.keys(0, 0, EXAMPLES)
    made = {}

    def call(function, *arguments):
        return whole(jax.jit(function)(variables, *arguments))

    if model.measure is not None:
        made |= {f'measure/{name}': value for name, value in call(model.measure, batch, keys).items()}
    codec, sampler = model.codec, model.sampler
    if codec and codec.encode is not None:
        made['encode'] = call(codec.encode, batch)
    if codec and codec.prior is not None:
        made['prior'] = call(codec.prior, keys)
    codes = made.get('encode', made.get('prior'))
    if codec and codes is not None:
        made['decode'] = call(codec.decode, codes)
    if model.reconstruct is not None:
        made |= {f'reconstruct/{name}': value for name, value in call(model.reconstruct, batch, keys).items()}
    estimates = model.likelihood or Likelihood()
    if estimates.log_weight is not None:
        made['log_weight'] = call(estimates.log_weight, batch, keys)
    condition = conditioning.from_batch(model.conditions, batch)
    if sampler and sampler.inpaint is not None:
        made['inpaint'] = call(sampler.inpaint, batch, masks(batch['x'].shape), keys, condition)
    if sampler and sampler.image_to_image is not None:
        made['redraw'] = call(sampler.image_to_image, batch, keys, condition)
    return made


def calm(task, stirred=False):
    """(the config, its arrays) with the first rates at which no player blows up."""
    chosen = {}
    while True:
        config = task.config(chosen)
        run = train(config, stirred)
        found = unstable(run.arrays, config)
        slower = {
            player: next((rate for rate in RATES if rate < config.optimizer[player].learning_rate), None)
            for player in found
        }
        if None in slower.values() or not found:
            return config, {**run.arrays, **samples(run), **abilities(run)}
        print(f'{task.name}: slower: {slower}', flush=True)
        chosen |= slower


def unstable(arrays, config):
    """Returns the players that diverge first: too large a step, a non-finite number, or a loss that grows a
    hundredfold.

    Later ones may only follow from them. Once a run diverges, every rounding error shows."""
    wild, first = {}, {}
    for key, value in arrays.items():  # in the order of the calls
        group, *place = key.split('/')
        if group != 'metrics' or place[-1] not in ('loss', 'gradient_norm'):
            continue
        (call, player, name), value = place, float(value)
        step = config.optimizer[player].learning_rate * value if name == 'gradient_norm' else 0
        grown = name == 'loss' and abs(value) > 100 * max(abs(first.setdefault(player, value)), 1)
        if not np.isfinite(value) or step > 8 or grown:
            wild.setdefault(player, int(call))
    if not wild:
        return {*config.optimizer} if not_finite(arrays) else set()
    return {player for player, call in wild.items() if call == min(wild.values())}


def not_finite(arrays):
    return sorted(
        name
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all()
    )


def write(folder, name, config, arrays):
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    partial = folder / f'.{name}.partial.npz'
    np.savez(partial, **arrays)
    (folder / f'{name}.json').write_text(json.dumps(plain(config), indent=1, sort_keys=True) + '\n')
    partial.rename(folder / f'{name}.npz')


def claimed(folder, name, force):
    """Returns a lock on a task, an open file; None where another process has it or it is done."""
    (folder / '.claims').mkdir(exist_ok=True)
    lock = open(folder / '.claims' / name, 'w')
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return lock if force or not (folder / f'{name}.npz').exists() else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--only', nargs='*', help='names of tasks, e.g. vae-default')
    parser.add_argument('--stir', action='store_true', help='begin with noise on constant parameters, see `stir`')
    parser.add_argument('--force', action='store_true')
    parser.add_argument('--plan', action='store_true', help='only list')
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tasks, skipped = plan()
    (options.out / 'skipped.json').write_text(json.dumps(skipped, indent=1) + '\n')
    if options.plan:
        print(*(task.name for task in tasks), f'{len(tasks)} to record', *skipped.items(), sep='\n')
        return
    for task in tasks:
        if options.only and task.name not in options.only:
            continue
        if not (claim := claimed(options.out, task.name, options.force)):
            continue
        began = time.perf_counter()
        try:
            config, arrays = calm(task, options.stir)
            write(options.out, task.name, config, arrays)
            bad = not_finite(arrays)
            print(
                f'{task.name}: {len(arrays)} arrays, {time.perf_counter() - began:.0f} s'
                + (f', NOT FINITE: {len(bad)}, e.g. {bad[:3]}' if bad else ''),
                flush=True,
            )
        except Exception:
            with open(options.out / 'errors.log', 'a') as log:
                log.write(f'==== {task.name}\n{traceback.format_exc()}\n')
            print(f'{task.name}: FAILED after {time.perf_counter() - began:.0f} s', flush=True)
        claim.close()
        drawing.jitted.cache_clear()
        jax.clear_caches()


if __name__ == '__main__':
    main()
