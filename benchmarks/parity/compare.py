"""Compares a network of a peer with ours on the same random weights.

Outputs, gradients with respect to the input, short trajectories of samplers, and one step of training. What a script
measures becomes a certificate, see `benchmarks.parity.certify`.

Random weights are few multiples of powers of two, so that float16 holds them exactly and a fixture is small.
"""

import argparse
import ast
import contextlib
import datetime
import functools
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax._src import source_info_util
from ml_collections import ConfigDict
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.parity import certify
from genlab import experiment, published
from genlab.diffusion import generation
from genlab.diffusion.model import make_model
from genlab.noise import normal, stream
from genlab.published import mapping
from genlab.published.mapping import Table
from genlab.published.recorded import TOLERANCE
from genlab.training import parallel, players
from genlab.training.program import make_init, programs
from genlab.training.state import State

WIDEST = torch.float64


def arguments(description: str, source: str) -> argparse.Namespace:
    """Parses the flags of a script; `source` says what the folder of the peer is."""
    # Weights that a function closes over are its arguments then: XLA would spend minutes on folding constants.
    jax.config.update('jax_use_simplified_jaxpr_constants', True)
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--source', required=True, type=pathlib.Path, help=source)
    parser.add_argument('--full', action='store_true', help='the published size instead of a tiny network')
    parser.add_argument('--fixture', type=pathlib.Path, help='folder to write the fixture of the tests to')
    parser.add_argument('--certify', action='store_true', help='write the certificate of this size')
    return parser.parse_args()


class Certificate:
    """Collects what a script measures, and writes it if the script was called with --certify.

    Args:
      record: name of the record.
      options: the flags of the script.
      size: what the networks of this size are, such as 'width 64, 64x64'.
      version: of the peer; '' takes the commit of its folder.
      peer: whose code the reference network is; '': the peer's own.
    """

    def __init__(self, record: str, options: argparse.Namespace, size: str, version: str = '', peer: str = ''):
        self.record, self.options, self.size, self.peer = record, options, size, peer
        self.version = version or commit(options.source)
        self.parameters = 0
        self.compared: list[dict[str, Any]] = []

    def add(self, what: str, **figures: float) -> None:
        """Adds figures of one comparison; prints them, and raises SystemExit if a difference is too large.

        Args:
          what: was compared.
          figures: by their names in `certify.FIGURES`; the gradient in float64 replaces the one in float32.
        """
        print(f'{what}: {", ".join(f"{certify.FIGURES[name]} {figure:.1e}" for name, figure in figures.items())}')
        checked = {**figures, 'gradient': figures.get('gradient64', figures.get('gradient', 0.0)), 'left_out': 0.0}
        if not max(checked.values()) < TOLERANCE:
            raise SystemExit(f'{what}: not equal')
        self.compared.append({'what': what, **{name: float(f'{figure:.2g}') for name, figure in figures.items()}})

    def write(self) -> None:
        """Prints versions, and writes the certificate if it was asked for."""
        versions = {'python': platform.python_version()}
        versions |= {package: importlib.metadata.version(package) for package in ('torch', 'jax')}
        run = {
            'date': datetime.date.today().isoformat(),
            'genlab': ours(),
            'peer': self.version,
            'versions': versions,
            'size': self.size,
            'parameters': self.parameters,
            'compared': self.compared,
        }
        if self.peer:
            run['reference'] = self.peer
        if flags := os.environ.get('XLA_FLAGS'):
            run['flags'] = flags
        print(run['peer'], run['versions'])
        if self.options.certify:
            certify.store(self.record, 'full' if self.options.full else 'tiny', run)


def randomize(module: torch.nn.Module, seed: int = 0, rounded: bool = True) -> torch.nn.Module:
    """Replaces parameters and statistics of a module by random ones, in place, and returns it in evaluation mode.

    Rounded numbers keep fixtures small. Sums of them can be exactly 0, the kink of a rectifier.
    """
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and 'resample_filter' not in name and 'noise_const' not in name:
                shape = tuple(tensor.shape)
                steps = 4 * draw.standard_normal(shape)
                steps = np.round(steps).clip(-12, 12) if rounded else steps
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


def table_of(certificate: Certificate, config: ConfigDict, kind: str) -> Table:
    """Returns the table of a kind of file."""
    found = published.record(certificate.record)
    return found.tables(found.complete(config))[kind]


def converted(
    certificate: Certificate,
    config: ConfigDict,
    kind: str,
    tensors: Mapping[str, np.ndarray],
    networks: Mapping[str, tuple] | None = None,
    counted: bool = True,
) -> dict[str, Any]:
    """Converts tensors by a record, checks the way back, and returns network -> variables.

    Args:
      certificate: of the record.
      config: whose network it is.
      kind: of the file.
      tensors: name -> array.
      networks: name -> (module, its inputs); None makes the networks of the config, which needs its data.
      counted: whether the certificate counts the parameters.
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
    table = table_of(certificate, config, kind)
    arrays = mapping.to_ours(tensors, table, shapes, 'the reference')
    back = mapping.to_theirs(arrays, table)
    if table.rewrite:  # the same function by other tensors
        again = mapping.to_ours(back, table, shapes, 'the way back')
        assert all(np.allclose(again[path], array, 1e-5, 1e-6) for path, array in arrays.items())
    else:
        assert all(np.array_equal(back[name], tensors[name]) for name in back)
    sizes = [array.size for path, array in arrays.items() if path.split('/')[1] == 'params']
    certificate.parameters += counted * sum(sizes)
    return mapping.nested({path: jnp.asarray(array, leaves[path].dtype) for path, array in arrays.items()})


def compare(
    certificate: Certificate,
    title: str,
    theirs: Callable[[torch.Tensor], torch.Tensor],
    ours: Callable[[jax.Array], jax.Array],
    x: np.ndarray,
    double: tuple[torch.nn.Module, Callable[[Any, jax.Array], jax.Array], Any] | None = None,
) -> np.ndarray:
    """Compares outputs and input gradients.

    In a large network some units are within rounding of the kink of their rectifier, where the slope jumps. Gradients
    that differ are then compared in float64.

    Args:
      certificate: takes the figures.
      title: of the network.
      theirs: maps a tensor [B, C, H, W] or [B, D] to a tensor.
      ours: maps an array [B, H, W, C] or [B, D] to an array of the same layout.
      x: the input in our layout.
      double: for float64: the peer's module, our function of variables and input, and the variables.

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

    differentiate = lambda ours: jax.value_and_grad(functools.partial(probed, ours), has_aux=True)
    (_, found), slope = jax.jit(differentiate(ours))(jnp.asarray(x))
    figures = {'forward': difference(found, expected), 'gradient': difference(slope, expected_slope)}
    if double is not None and figures['gradient'] >= TOLERANCE:
        module, exact, variables = double
        module.double()
        with widened():
            expected_slope = differentiated(WIDEST)[1]
        module.float()
        with float64():
            fixed = functools.partial(exact, jax.tree.map(wide, variables))
            slope = exactly(differentiate(fixed), wide(x))[1]
        figures['gradient64'] = difference(slope, expected_slope)
    certificate.add(title, **figures)
    return expected


@contextlib.contextmanager
def in_float64(config: ConfigDict) -> Iterator[None]:
    """Lets what is made of the config compute in float64; it is of float32 otherwise."""
    config.model.dtype = 'float64'
    yield
    config.model.dtype = 'float32'


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Lets the modules of genlab compute in float64 what they compute in float32 whatever the type of their inputs."""
    wider = types.SimpleNamespace(**{name: getattr(jnp, name) for name in dir(jnp)} | {'float32': jnp.float64})
    mine = [module for name, module in sys.modules.items() if name.startswith('genlab.')]
    mine = [module for module in mine if getattr(module, 'jnp', None) is jnp]
    with jax.enable_x64(True):
        for module in mine:
            module.jnp = wider
        try:
            yield
        finally:
            for module in mine:
                module.jnp = jnp


def exactly(function: Callable, *arguments: Any) -> Any:
    """Computes a function of ours, to be called within `float64`.

    Raises:
      SystemExit: a part of it computes in a narrower type.
    """
    traced = jax.jit(function).trace(*arguments)
    if found := sorted({*narrow(traced.jaxpr.jaxpr)}):
        raise SystemExit('not in float64: ' + ', '.join(found))
    return traced.lower().compile()(*arguments)


def narrow(jaxpr: Any) -> Iterator[str]:
    """Yields the operations of a jaxpr whose results are real numbers in less than float64, with their places."""
    for equation in jaxpr.eqns:
        inner = [*jax.core.jaxprs_in_params(equation.params)]
        for one in inner:
            yield from narrow(one)
        real = [found.aval for found in equation.outvars if jnp.issubdtype(found.aval.dtype, jnp.inexact)]
        if not inner and any(aval.dtype != jnp.float64 for aval in real):
            yield f'{equation.primitive} ({source_info_util.summarize(equation.source_info)})'


def wide(leaf: Any) -> jax.Array:
    """Returns an array in float64, to be called within `float64`; integers stay."""
    return jnp.asarray(leaf, jnp.float64 if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.dtype)


def sampled(
    config: ConfigDict, variables: Any, x: np.ndarray, condition: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """Samples by `config.sample` from given noise.

    Args:
      config: of the run.
      variables: of the denoiser.
      x: noise [B, H, W, C].
      condition: embedded condition, leaves [B, ...].

    Returns:
      Samples [B, H, W, C].
    """
    model = make_model(config, x.shape[1:])

    def run(variables: Any, x: jax.Array) -> jax.Array:
        start = lambda process, t, keys: x
        return generation.generate(model, {'denoiser': variables}, _sample_keys(x), condition or {}, start=start)

    return np.asarray(jax.jit(run)(variables, jnp.asarray(x)))


def _sample_keys(x: Any) -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.arange(len(x)))


@contextlib.contextmanager
def noise_of(x: np.ndarray, copies: int = 1) -> Iterator[None]:
    """Lets `torch.randn_like` return the noise of our sampler from x [B, H, W, C] step by step, `copies` times."""
    steps = itertools.count(1)

    def draw(like: torch.Tensor) -> torch.Tensor:
        found = normal(stream(_sample_keys(x), 'solver', next(steps)), x.shape[1:], 'noise')
        return torch.from_numpy(np.tile(np.asarray(found).transpose(0, 3, 1, 2), (copies, 1, 1, 1)))

    with mock.patch.object(torch, 'randn_like', draw):
        yield


def stepped(
    config: ConfigDict, variables: Mapping[str, Any], batch: Mapping[str, jax.Array], key: jax.Array
) -> dict[str, np.ndarray]:
    """Runs one training step of ours, to be called within `float64`.

    Args:
      config: of the run, with `config.model.dtype` 'float64'.
      variables: network -> collections, of all networks.
      batch: leaves [B, ...].
      key: of the step.

    Returns:
      path -> change of the variable.
    """
    made = experiment.load(config.experiment)(config, None)
    outline = jax.eval_shape(made.init, batch, key)
    old = jax.tree.map(wide, dict(variables))
    zeros = lambda leaf: wide(jnp.zeros(leaf.shape, leaf.dtype))
    params = {network: old[network].get('params', {}) for network in outline.params}
    stats = {network: {name: old[network][name] for name in found} for network, found in outline.stats.items()}
    average = {network: params[network] for network in outline.average}
    optimizer = jax.tree.map(zeros, outline.optimizer)  # moments and counts start at 0
    state = State(jnp.zeros((), jnp.int32), params, stats, optimizer, average)
    new = exactly(made.step, state, jax.tree.map(lambda leaf: leaf[None], dict(batch)), key)[0]
    return mapping.paths(jax.tree.map(lambda new, old: np.asarray(new - old), new.variables(), state.variables()))


def keys_of(key: jax.Array, position: jax.Array) -> jax.Array:
    """Returns the keys of the examples [B] at the first turn of the first step, from the key of the step."""
    return players.example_keys(jax.random.fold_in(jax.random.fold_in(key, 0), 0), position)


def images_stepped(
    config: ConfigDict, variables: Mapping[str, Any], batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Runs one training step of ours in float64 on images: leaves [B, ...]. See `stepped`."""
    with float64(), in_float64(config):
        position = jnp.arange(len(batch['x']))
        return stepped(config, variables, jax.tree.map(wide, dict(batch)) | {'position': position}, jax.random.key(3))


def denoiser_stepped(
    config: ConfigDict, variables: Mapping[str, Any], x: np.ndarray, condition: Mapping[str, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Runs one training step of a denoiser of ours in float64, without augmentation, dropout and warmup.

    Args:
      config: of the run; its keys for these three, and for the share of null conditions, are set to 0.
      variables: network -> collections.
      x: images [B, H, W, C].
      condition: leaves of the batch [B, ...] that condition the network.

    Returns:
      The times [B] and the noise [B, H, W, C] of the step, and path -> change of the variable.
    """
    config.model.augmentation, config.optimizer.denoiser.warmup, config.model.drop_condition = 0.0, 0, 0.0
    if 'dropout' in config.model.network:
        config.model.network.dropout = 0.0
    with float64(), in_float64(config):
        key, position = jax.random.key(3), jnp.arange(len(x))
        keys = keys_of(key, position)
        model = make_model(config, x.shape[1:])
        times = model.quantile(model.process({}), model.draw(position, keys, jnp.zeros((), jnp.int32)))
        epsilon = np.array(normal(keys, x.shape[1:], 'noise'))
        batch = {'x': jnp.asarray(x, jnp.float64), 'position': position, **(condition or {})}
        found = stepped(config, variables, batch, key)
    return np.array(times), epsilon, found


def double(x: np.ndarray) -> torch.Tensor:
    """Returns images [B, H, W, C] as a tensor [B, C, H, W] in float64."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float64))


@contextlib.contextmanager
def widened() -> Iterator[None]:
    """Lets code of the peer that asks for float32 get float64.

    Raises:
      SystemExit: a part of it computes in a narrower type.
    """
    usual = torch.get_default_dtype()
    torch.set_default_dtype(WIDEST)
    try:
        with (
            mock.patch.object(torch, 'float32', WIDEST),
            mock.patch.object(torch.Tensor, 'float', torch.Tensor.double),
            Narrow() as mode,
        ):
            yield
    finally:
        torch.set_default_dtype(usual)
    if mode.found:
        raise SystemExit('not in float64: ' + ', '.join(sorted(mode.found)))


class Narrow(TorchDispatchMode):
    """Collects the names of the peer's operations whose results are real numbers in less than float64.

    `lift_fresh` only takes in an array, before its conversion.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        made = [one for one in (result if isinstance(result, tuple | list) else (result,)) if torch.is_tensor(one)]
        if any(one.is_floating_point() and one.dtype is not WIDEST for one in made):
            self.found |= {str(function)} - {'aten.lift_fresh.default'}
        return result


class Moved:
    """Holds a module of the peer before a step of training: in float64, in training mode."""

    def __init__(self, module: torch.nn.Module):
        self.module = module.double().train().requires_grad_(True)
        self.before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def changes(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns changes and gradients of the tensors by name; unused ones and buffers have gradients of 0."""
        found = {name: parameter.grad for name, parameter in self.module.named_parameters()}
        gradients = {name: gradient.numpy().copy() for name, gradient in found.items() if gradient is not None}
        moved = {name: (new - self.before[name]).detach() for name, new in self.module.state_dict().items()}
        found = {name: tensor.numpy().astype(np.float64) for name, tensor in moved.items()}
        return found, {name: gradients.get(name, np.zeros_like(array)) for name, array in found.items()}


def compare_update(
    certificate: Certificate,
    title: str,
    table: Table,
    theirs: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    found: Mapping[str, np.ndarray],
    without: tuple[str, ...] = (),
) -> None:
    """Compares the changes of parameters by one step of an optimizer, relative to the largest change.

    The first step of Adam moves a parameter by the learning rate against the sign of its gradient. Where a gradient is
    within rounding of 0 the sign is not determined, so these parameters are left out; their share is recorded.

    Args:
      certificate: takes the figures.
      title: of the network and the optimizer.
      table: of the network's file; its layouts are linear.
      theirs: changes and gradients of the peer's tensors by name.
      found: path -> change of our variables.
      without: paths of variables that the peer holds in another scale, so that one rate moves them differently.
    """
    shapes = {path: array.shape for path, array in found.items()}
    moved, gradients = (mapping.to_ours(arrays, table, shapes, 'the change', np.float64) for arrays in theirs)
    paths = [path for path in moved if path.split('/')[1] == 'params' and path not in without]
    largest = max(np.abs(moved[path]).max() for path in paths)
    assert largest > 0
    worst, kept, count = 0.0, 0, 0
    for path in paths:
        slope = np.abs(gradients[path])
        clear = slope > certify.ROUNDING * slope.max()
        worst = max(worst, float((np.abs(found[path] - moved[path]) * clear).max() / largest))
        kept, count = kept + int(clear.sum()), count + clear.size
    certificate.add(title, update=worst, left_out=1 - kept / count)


def definitions(path: pathlib.Path, *names: str, **known: Any) -> dict[str, Any]:
    """Executes some functions or classes of a source file of the peer, and nothing else of the file.

    Args:
      path: of the file.
      names: of the definitions.
      known: global names that they use.

    Returns:
      name -> function or class.
    """
    body = [node for node in ast.parse(path.read_text()).body if getattr(node, 'name', None) in names]
    space = dict(known)
    exec(compile(ast.Module(body, []), str(path), 'exec'), space)
    return {name: space[name] for name in names}


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
    """Returns the short commit of a checkout of the peer; raises SystemExit if the folder is none."""
    if not (found := _git(folder, 'rev-parse', '--short=7', 'HEAD')):
        raise SystemExit(f'--source={folder}: not a checkout: the certificate needs its commit')
    return found


def ours() -> str:
    """Returns the last commit that changed what genlab computes, with a + if there are changes since."""
    code = ('--', *(f'genlab/{name}' for name in certify.CODE))
    changed = '+' if _git(certify.ROOT, 'status', '--porcelain', *code) else ''
    return _git(certify.ROOT, 'log', '-1', '--format=%h', '--abbrev=7', *code) + changed


def _git(folder: pathlib.Path, *arguments: str) -> str:
    asked = subprocess.run(('git', '-C', str(folder), *arguments), capture_output=True, text=True)
    return asked.stdout.strip()
