"""Compares networks with recorded inputs and outputs of a reference.

The file is an .npz. `<network>/inputs/<name>` is an argument of our network by its name, and `<network>/output` what
the reference returns for it, in our layouts: images are [B, H, W, C].
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genlab.errors import ConfigError, choose
from genlab.published import files, mapping
from genlab.training.program import Program
from genlab.training.state import Network

TOLERANCE = 1e-4  # of the largest difference, relative to the largest value


def check_recorded(path: Path, program: Program, variables: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Runs networks on recorded inputs, outside of training.

    Args:
      path: of the file.
      program: of the config.
      variables: path -> array, of the converted networks.

    Returns:
      network -> largest difference of the outputs, relative to the largest value. Of several outputs, the first counts.

    Raises:
      ConfigError: the file is not such a recording, or an output differs by more than TOLERANCE.
    """
    where = f'--check={path}'
    given: dict[str, dict[str, np.ndarray]] = {}
    if program.experiment.networks is None:
        raise ConfigError(f'{where}: this experiment has no networks to compare: leave it out')
    trees = mapping.nested(variables)
    for name, array in _read(path).items():
        network, _, rest = name.partition('/')
        choose(trees, network, where)
        given.setdefault(network, {})[rest] = array
    if not given:
        raise ConfigError(f'{where}: it is empty')
    differences = {}
    for network, arrays in given.items():
        if 'output' not in arrays:
            raise ConfigError(f'{where}: {network}/output is missing')
        inputs = {name.removeprefix('inputs/'): array for name, array in arrays.items() if name != 'output'}
        output = _run(program, network, trees[network], inputs, where)
        differences[network] = _difference(output, arrays['output'], f'{where}: {network}/output')
    return differences


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        found: dict[str, np.ndarray] = files.read('npz', path)
    except ConfigError as error:
        raise ConfigError(f'--check={str(error).removeprefix("--from=npz: ")}') from None
    return found


def _run(program: Program, name: str, variables: Any, inputs: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Returns the first output of a network for inputs by name; it takes the others as at its initialisation."""
    networks = program.experiment.networks
    assert networks is not None
    key = jax.random.key(0)  # of random transforms of the examples that only give shapes
    batch = jax.tree.map(lambda leaf: leaf[0], program.batches(0, 1, slice(0, 1)))

    def network() -> Network:
        return networks(program.prepare(batch, key[None]))[name]

    def call(variables: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        made = network()
        return jax.tree.leaves(made.module.apply(variables, **{**_arguments(made), **inputs}))[0]

    def look() -> None:
        known.update({key: hasattr(value, 'shape') for key, value in _arguments(network()).items()})

    known: dict[str, bool] = {}  # argument -> whether it is an array that has to be given
    jax.eval_shape(look)
    needed = [key for key, given in known.items() if given]
    if {*inputs} - {*known} or {*needed} - {*inputs}:
        raise ConfigError(
            f'{where}: {name} has the inputs {", ".join(sorted(inputs)) or "none"}; it needs {", ".join(needed)}, '
            f'of {", ".join(known)}'
        )
    try:
        return np.asarray(jax.jit(call)(variables, {key: jnp.asarray(array) for key, array in inputs.items()}))
    except (TypeError, ValueError) as error:  # another shape than the network takes
        raise ConfigError(f'{where}: {name} cannot take these inputs ({" ".join(str(error).split())[:200]})') from None


def _arguments(network: Network) -> dict[str, Any]:
    """Returns the arguments of a network's call by name."""
    bound = inspect.signature(network.module.__call__).bind(*network.inputs, **network.named)
    bound.apply_defaults()
    return dict(bound.arguments)


def _difference(found: np.ndarray, expected: np.ndarray, where: str) -> float:
    if found.shape != expected.shape:
        raise ConfigError(f'{where} has the shape {expected.shape}, and the network returns {found.shape}')
    largest = float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
    if not largest <= TOLERANCE:
        raise ConfigError(
            f'{where}: the largest relative difference is {largest:.1e}, more than {TOLERANCE:.0e}: other weights, '
            'other inputs, or another layout'
        )
    return largest
