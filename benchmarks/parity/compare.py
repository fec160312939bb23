"""Compares a network of a peer with ours on the same random weights: outputs, and gradients with respect to the input.

Random weights are few multiples of powers of two, so that float16 holds them exactly and a fixture is small.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import pathlib
import subprocess
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from genlab import experiment, published
from genlab.networks.layers import normalization
from genlab.published import mapping
from genlab.training import parallel
from genlab.training.program import make_init, programs

TOLERANCE = 1e-4  # of the largest difference, relative to the largest value


def arguments(description: str, source: str = '') -> argparse.Namespace:
    """Parses the flags of a script; `source` says what the folder of the peer is, or '' if none is needed."""
    parser = argparse.ArgumentParser(description=description)
    if source:
        parser.add_argument('--source', required=True, type=pathlib.Path, help=source)
    parser.add_argument('--full', action='store_true', help='the published size instead of a tiny network')
    parser.add_argument('--fixture', type=pathlib.Path, help='folder to write the fixture of the tests to')
    return parser.parse_args()


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Replaces parameters and statistics of a module by random ones, in place, and returns it in evaluation mode."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and 'resample_filter' not in name and 'noise_const' not in name:
                shape = tuple(tensor.shape)
                steps = np.round(4 * draw.standard_normal(shape)).clip(-12, 12)
                if len(shape) > 1:
                    values = steps * 2.0 ** -round(2 + math.log2(max(math.prod(shape[1:]), 1)) / 2)
                else:
                    around_one = name.endswith(('norm.weight', 'running_var')) or bool((tensor == 1).all())
                    values = steps / 64 + around_one
                tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))
    return module.eval().requires_grad_(False)


def tensors_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Returns the state dict of a module as numpy arrays."""
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def converted(
    config: ConfigDict,
    record: str,
    kind: str,
    tensors: Mapping[str, np.ndarray],
    networks: Mapping[str, tuple] | None = None,
) -> dict[str, Any]:
    """Converts tensors by a record, checks the way back, and returns network -> variables.

    Args:
      config: whose network it is.
      record: its name.
      kind: of the file.
      tensors: name -> array.
      networks: name -> (module, its inputs); None makes the networks of the config, which needs its data.
    """
    if networks is None:
        program = programs(config, experiment.load(config.experiment), parallel.place('pmap'), declared=True)[0]
        variables, config = jax.eval_shape(make_init(program)).variables(), program.config
    else:
        variables = {
            name: jax.eval_shape(lambda n=network, i=inputs: n.init(jax.random.key(0), *i))
            for name, (network, *inputs) in networks.items()
        }
    leaves = mapping.paths(variables)
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    found = published.record(record)
    table = found.tables(found.complete(config))[kind]
    arrays = mapping.to_ours(tensors, table, shapes, 'the reference')
    back = mapping.to_theirs(arrays, table)
    if table.rewrite:  # the same function by other tensors
        again = mapping.to_ours(back, table, shapes, 'the way back')
        assert all(np.allclose(again[path], array, 1e-5, 1e-6) for path, array in arrays.items())
    else:
        assert all(np.array_equal(back[name], tensors[name]) for name in back)
    return mapping.nested({path: jnp.asarray(array, leaves[path].dtype) for path, array in arrays.items()})


def compare(
    title: str,
    theirs: Callable[[torch.Tensor], torch.Tensor],
    ours: Callable[[jax.Array], jax.Array],
    x: np.ndarray,
    double: tuple[torch.nn.Module, Callable[[jax.Array], jax.Array]] | None = None,
) -> np.ndarray:
    """Compares outputs and input gradients; prints one line, and raises SystemExit if one differs too much.

    In a large network some units are within rounding of the kink of their rectifier, where the slope jumps. Gradients
    that differ are then compared in float64.

    Args:
      title: of the network.
      theirs: maps a tensor [B, C, H, W] or [B, D] to a tensor.
      ours: maps an array [B, H, W, C] or [B, D] to an array of the same layout.
      x: the input in our layout.
      double: the peer's module, which stays in float64, and our function in float64, to be traced within `float64`.

    Returns:
      The output of the peer in our layout.
    """
    last, first = (
        (lambda a: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a),
        (lambda a: a.transpose(0, 3, 1, 2) if a.ndim == 4 else a),
    )

    def differentiated(kind: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Returns output and input gradient of the peer."""
        tensor = torch.from_numpy(np.ascontiguousarray(first(x))).to(kind).requires_grad_(True)
        output = theirs(tensor)
        (output * torch.from_numpy(probe(output.shape)).to(kind)).sum().backward()
        return output.detach().numpy(), last(tensor.grad.numpy())

    probe = lambda shape: np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    output, expected_slope = differentiated(torch.float32)
    expected = last(output)

    def probed(ours: Callable[[jax.Array], jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = ours(x)
        return (y * last(probe(output.shape)).astype(x.dtype)).sum(), y

    differentiate = jax.jit(jax.value_and_grad(probed, 1, has_aux=True), static_argnums=0)
    (_, found), slope = differentiate(ours, jnp.asarray(x))
    errors = [difference(found, expected), difference(slope, expected_slope)]
    print(f'{title}: largest relative difference of outputs {errors[0]:.1e}, of input gradients {errors[1]:.1e}')
    if double is not None and errors[1] >= TOLERANCE:
        module, exact = double
        module.double()
        expected_slope = differentiated(torch.float64)[1]
        with float64():
            slope = differentiate(exact, jnp.asarray(x, jnp.float64))[1]
        errors[1] = difference(slope, expected_slope)
        print(f'{title}: of input gradients in float64 {errors[1]:.1e}')
    if not max(errors) < TOLERANCE:
        raise SystemExit(f'{title}: not equal')
    return expected


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Lets normalisations compute in float64; they compute in float32 whatever the type of their inputs."""
    wide = types.SimpleNamespace(**{name: getattr(jnp, name) for name in dir(jnp)} | {'float32': jnp.float64})
    with jax.enable_x64(True):
        normalization.jnp = wide
        try:
            yield
        finally:
            normalization.jnp = jnp


def difference(found: Any, expected: Any) -> float:
    """Returns the largest difference, relative to the largest value."""
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def drawn(draw: np.random.Generator, options: argparse.Namespace, *shape: int) -> np.ndarray:
    """Draws an input; for a tiny network multiples of 1/64, which float16 holds exactly: a fixture of it is small.

    In a large network these would meet the kink of a rectifier, where the two sides differ in the slope.
    """
    x = draw.standard_normal(shape).astype(np.float32)
    return x if options.full else np.round(64 * x).clip(-256, 256) / 64


def write_fixture(
    path: pathlib.Path,
    tensors: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    output: np.ndarray,
    ignored: tuple[str, ...] = (),
) -> None:
    """Writes weights, inputs and the peer's output for the tests, without tensors whose names end in `ignored`.

    The weights are one array: names take little space then.
    """
    kept = {name: array for name, array in tensors.items() if not name.endswith(ignored)}
    half = {name: array.astype(np.float16) for name, array in kept.items() if array.ndim or array}
    assert all(np.array_equal(array, tensors[name]) for name, array in half.items())
    shapes = json.dumps({name: array.shape for name, array in half.items()})
    packed = {
        'shapes': np.frombuffer(shapes.encode(), np.uint8),
        'tensors': np.concatenate([array.ravel() for array in half.values()]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    exact = lambda array: array.dtype == np.float32 and np.array_equal(array, array.astype(np.float16))
    extra = {f'inputs/{name}': array.astype('f2') if exact(array) else array for name, array in inputs.items()}
    np.savez_compressed(path, output=output.astype(np.float32), **packed, **extra)
    print(f'{path}: {path.stat().st_size} bytes')


def commit(folder: pathlib.Path) -> str:
    """Returns the commit of a checkout of the peer, or 'no checkout'."""
    asked = subprocess.run(('git', '-C', str(folder), 'rev-parse', 'HEAD'), capture_output=True, text=True)
    return asked.stdout.strip() or 'no checkout'


def versions(*packages: str) -> str:
    """Returns packages with their versions."""
    return ', '.join(f'{package} {importlib.metadata.version(package)}' for package in ('torch', 'jax', *packages))
