"""Describes the networks of a config: each module with its output and parameters, by abstract evaluation."""

import collections
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.experiment import Build
from genlab.training import parallel
from genlab.training.program import make_init, outline, programs
from genlab.training.state import State


def describe(config: ConfigDict, build: Build) -> dict[str, dict]:
    """Returns network -> {'parameters': total, 'modules': [{'path', 'type', 'output', 'parameters'}, ...]}."""
    return described(config, build)[0]


def described(config: ConfigDict, build: Build) -> tuple[dict[str, dict], State]:
    """Returns what `describe` does, and the shapes of the state before the first step.

    Computes nothing and reads no examples, only what the data declare. Counts the collection 'constants' (e.g. a fixed
    position table) as papers do: it is saved but never trained.
    """
    program = programs(config, build, parallel.place(config.placement), declared=True)[0]
    calls: list[dict] = []
    with nn.intercept_methods(lambda *call: _note(calls, *call)):
        state = outline(make_init(program))
    held = {network: [params, state.stats[network].get('constants', {})] for network, params in state.params.items()}
    networks = {
        network: {'parameters': count(trees), 'modules': _modules(network, trees, calls)}
        for network, trees in held.items()
    }
    return networks, state


def totals(networks: dict[str, dict]) -> dict[str, int]:
    """Returns network -> number of parameters."""
    return {network: description['parameters'] for network, description in networks.items()}


def count(tree: Any) -> int:
    """Counts the numbers in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def table(networks: dict[str, dict]) -> str:
    """Formats the result of `describe` as a text table."""
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


def _note(calls: list[dict], call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    """Records the call of a module. The name of the outermost module is its network.

    Inside `nn.remat` the ancestors of a module end at the block. The outermost call without an output then gives the
    root.
    """
    if context.method_name != '__call__':
        return call(*args, **kwargs)
    module = context.module
    outermost = next((note['root'] for note in calls if 'output' not in note), None)
    note = {'root': outermost or _root(module).name, 'path': module.path, 'type': type(module).__name__}
    calls.append(note)  # before the calls of its submodules
    output = call(*args, **kwargs)
    note['output'] = [list(leaf.shape) for leaf in jax.tree.leaves(output) if hasattr(leaf, 'shape')]
    return output


def _root(module: nn.Module) -> nn.Module:
    """Returns the outermost ancestor of a module."""
    while isinstance(module.parent, nn.Module):
        module = module.parent
    return module


def _modules(network: str, trees: list, calls: list[dict]) -> list[dict]:
    """Lists the modules of one network in the order of first calls, each without the parameters of its submodules.

    Args:
      network: the name of the network.
      trees: its parameters and its 'constants', as trees of shapes.
      calls: the records of `_note`.

    Returns:
      One dict per module. Modules that hold parameters but were never called (the network itself, a codebook) come
      last.
    """
    held: collections.Counter[tuple] = collections.Counter()
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
    """Formats one output shape, or several, without the batch dimension."""
    nested = output and isinstance(output[0], list)
    return ', '.join('x'.join(map(str, shape[1:])) for shape in (output if nested else [output] if output else []))
