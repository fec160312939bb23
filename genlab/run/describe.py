"""What a config's networks are: every module with its output and parameters, by abstract evaluation alone."""

import collections
import itertools
import math
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import data
from genlab.experiment import Build
from genlab.training import parallel
from genlab.training.program import make_init, programs


def describe(config: ConfigDict, build: Build) -> dict[str, dict]:
    """network -> {'parameters': total, 'modules': [{'path', 'type', 'output', 'parameters'}, ...]}.

    The collection 'constants', such as a fixed table of positions, counts as papers count it: saved and never trained.
    Nothing is computed, and no data are read."""
    program = programs(config, build, parallel.place(config.placement), data.declared(config.data))[0]
    calls: list[dict] = []
    with nn.intercept_methods(lambda *call: _note(calls, *call)):
        state = jax.eval_shape(make_init(program))
    held = {network: [params, state.stats[network].get('constants', {})] for network, params in state.params.items()}
    return {
        network: {'parameters': count(trees), 'modules': _modules(network, trees, calls)}
        for network, trees in held.items()
    }


def totals(networks: dict[str, dict]) -> dict[str, int]:
    """network -> its parameters."""
    return {network: description['parameters'] for network, description in networks.items()}


def count(tree: Any) -> int:
    """The numbers in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def table(networks: dict[str, dict]) -> str:
    """The same as text for a person."""
    lines = []
    for network, description in networks.items():
        rows = [
            (module['path'], module['type'], _shapes(module['output']), f'{module["parameters"]:,}')
            for module in description['modules']
        ]
        rows = [
            ('module', 'type', 'output', 'parameters'),
            *rows,
            (network, 'total', '', f'{description["parameters"]:,}'),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines += [
            f'{a:{widths[0]}}  {b:{widths[1]}}  {c:{widths[2]}}  {d:>{widths[3]}}'.rstrip() for a, b, c, d in rows
        ] + ['']
    total = sum(description['parameters'] for description in networks.values())
    return '\n'.join([*lines, f'{total:,} parameters in {len(networks)} networks'])


def _note(calls, call, args, kwargs, context):
    """Notes a module's call on the way: its network is the name that the outermost module was given.

    Inside `nn.remat` a module's ancestors end at the block, so the call under way (without an output yet) knows."""
    if context.method_name != '__call__':
        return call(*args, **kwargs)
    module = context.module
    outermost = next((note['root'] for note in calls if 'output' not in note), None)
    note = {'root': outermost or _root(module).name, 'path': module.path, 'type': type(module).__name__}
    calls.append(note)  # before the calls that it makes
    output = call(*args, **kwargs)
    note['output'] = [list(leaf.shape) for leaf in jax.tree.leaves(output) if hasattr(leaf, 'shape')]
    return output


def _root(module: nn.Module) -> nn.Module:
    while isinstance(module.parent, nn.Module):
        module = module.parent
    return module


def _modules(network: str, trees: list, calls: list[dict]) -> list[dict]:
    """The modules of one network in the order of their first calls, with the parameters that are theirs alone.

    Parameters of what was never called, only asked for something else (the network itself, a codebook), come last."""
    held = collections.Counter()
    for path, leaf in itertools.chain.from_iterable(map(jax.tree.leaves_with_path, trees)):
        held[tuple(key.key for key in path[:-1])] += math.prod(leaf.shape)
    first: dict[tuple, dict] = {}
    for call in calls:
        if call['root'] == network and call['path']:
            first.setdefault(call['path'], call)
    rows = [(path, call['type'], call['output']) for path, call in first.items()]
    rows += [(path, 'own', []) for path in sorted(held) if path not in first]
    return [
        {
            'path': '/'.join((network, *path)),
            'type': kind,
            'output': output[0] if len(output) == 1 else output,
            'parameters': held[path],
        }
        for path, kind, output in rows
    ]


def _shapes(output: list) -> str:
    nested = output and isinstance(output[0], list)
    return ', '.join('x'.join(map(str, shape[1:])) for shape in (output if nested else [output] if output else []))
