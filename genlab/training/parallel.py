"""Where things live: the only file that knows about devices.

A placement says how a state and a batch are laid over devices and how a step is compiled for them. `pmapped` keeps a copy of
the state on every device; `sharded` also splits large arrays over them (FSDP). Both give the numbers of one device. Steps are
compiled ahead of time: a pmap then takes and returns global arrays, with several processes too, as jit does.
Devices are an argument: they may be this machine's, or those of a TPU topology that is only compiled for (`genlab.training.plan`).
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genlab.errors import ConfigError, UserError

AXIS = 'batch'
SHARD_FROM = 2**14  # elements; smaller arrays cost more to gather than to keep everywhere

Tree = Any


class Placement(NamedTuple):
    """How a run lies over its devices.

    What it compiles is a call `(carry, batches, constants) -> carry`, batches with leaves [steps, turns, B, ...]."""

    axis: str | None  # the name to take means over inside a step: 'batch' under pmap, None under jit
    devices: int  # over all processes
    mesh: Mesh
    shardings: Callable[[Tree], Tree]  # arrays or shapes of a state -> their shardings
    compile: Callable[[Callable, Tree], Any]  # (call, carry) -> a function with `.lower(carry, batches, constants)`
    put: Callable[[Tree], Tree]  # this process's rows of a batch -> what a compiled call takes
    shapes: Callable[[Tree], Tree]  # shapes of a global batch -> the shapes of what a compiled call takes
    outline: (
        Callable  # (call, state, batches, constants), shapes or arrays on the host -> the shapes of the call's result
    )


def pmapped(devices: list) -> Placement:
    """A copy of the state on every device, the batch split over them (data parallelism by `jax.pmap`)."""
    mesh = Mesh(np.array(devices), (AXIS,))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))

    def compile(call, carry):
        del carry
        return jax.pmap(call, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0, devices=devices)

    def put(batches):
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(split, _split(leaf, local)), batches)

    def shapes(batches):
        return jax.tree.map(
            lambda leaf: _shape(jax.eval_shape(lambda x: _split(x, len(devices)), leaf), split), batches
        )

    def outline(call, state, batches, constants):
        mapped = jax.pmap(call, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices)
        return jax.eval_shape(mapped, state, shapes(batches), constants)

    local = sum(device.process_index == jax.process_index() for device in devices)
    return Placement(
        AXIS, len(devices), mesh, lambda tree: jax.tree.map(lambda _: everywhere, tree), compile, put, shapes, outline
    )


def sharded(devices: list) -> Placement:
    """Large arrays of the state split over the devices as well as the batch (FSDP by `jax.jit` on a mesh)."""
    mesh = Mesh(np.array(devices), (AXIS,))
    rows = NamedSharding(mesh, PartitionSpec(None, None, AXIS))

    def shardings(tree):
        return jax.tree.map(lambda leaf: NamedSharding(mesh, _split_largest(leaf.shape, len(devices))), tree)

    def compile(call, carry):
        return jax.jit(
            call,
            in_shardings=(shardings(carry), rows, NamedSharding(mesh, PartitionSpec())),
            out_shardings=shardings(carry),
            donate_argnums=0,
        )

    def put(batches):
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(rows, leaf), batches)

    def shapes(batches):
        return jax.tree.map(lambda leaf: _shape(leaf, rows), batches)

    def outline(call, state, batches, constants):
        placed = jax.tree.map(_shape, state, shardings(state))
        replicated = jax.tree.map(lambda leaf: _shape(leaf, NamedSharding(mesh, PartitionSpec())), constants)
        return jax.eval_shape(call, placed, shapes(batches), replicated)

    return Placement(None, len(devices), mesh, shardings, compile, put, shapes, outline)


PLACEMENTS = {'pmap': pmapped, 'fsdp': sharded}


def place(name: str, devices: list | None = None) -> Placement:
    """The placement of `config.placement` over `devices` (all of this run's by default)."""
    if name not in PLACEMENTS:
        raise ConfigError(f'config.placement={name!r}: choose one of {", ".join(PLACEMENTS)}')
    devices = jax.devices() if devices is None else devices
    if (
        len(devices) == 1
    ):  # nobody to agree with: collectives among one still cost, and small steps are made of little else
        return sharded(devices)
    return PLACEMENTS[name](devices)


def initial(placement: Placement, make: Callable[[], Tree]) -> Tree:
    """`make()` computed where it will live; no device ever holds more of it than its share."""
    return jax.jit(make, out_shardings=placement.shardings(jax.eval_shape(make)))()


def replicated(placement: Placement, tree: Tree) -> Tree:
    """The shapes of what `replicate` makes."""
    return jax.tree.map(lambda leaf: _shape(leaf, NamedSharding(placement.mesh, PartitionSpec())), tree)


def replicate(placement: Placement, tree: Tree) -> Tree:
    """Host arrays that every process holds whole, copied to every device of the placement."""
    return jax.tree.map(lambda leaf: _global(leaf, NamedSharding(placement.mesh, PartitionSpec())), tree)


def template(placement: Placement, tree: Tree) -> Tree:
    """The shapes of a state with their shardings: what a checkpoint is restored into."""
    return jax.tree.map(_shape, tree, placement.shardings(tree))


def run(placement: Placement, function: Callable, variables: Tree, examples: Tree) -> Tree:
    """`function(variables, examples)` on the devices of the state, examples split over them where they divide; host arrays.

    `function` must be a `jax.jit` that the caller keeps, so that it compiles once."""
    size = placement.mesh.size

    def spread(leaf):
        rows = PartitionSpec(AXIS) if leaf.shape[0] % size == 0 else PartitionSpec()
        sharding = NamedSharding(placement.mesh, rows)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(_global(np.asarray(jax.random.key_data(leaf)), sharding))
        return _global(np.asarray(leaf), sharding)

    return to_host(function(variables, jax.tree.map(spread, examples)))


def to_host(tree: Tree) -> Tree:
    """The whole arrays as numpy, gathered from other processes where this one holds only a part."""
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def process_rows(batch_size: int, devices: int, microbatches: int = 1) -> slice:
    """The rows of each global batch that this process loads."""
    if batch_size % (devices * microbatches):
        raise ConfigError(
            f'config.data.batch_size={batch_size} does not divide over {devices} devices x '
            f'{microbatches} microbatches: take a multiple of {devices * microbatches}'
        )
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def agree(flag: bool) -> bool:
    """Whether any process says so: the answer is the same on all of them."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def start(coordinator: str, processes: int, process_id: int, require: str) -> None:
    """Joins the other processes of a run, if there are any, and checks that the wanted kind of device is there."""
    if coordinator:
        jax.distributed.initialize(coordinator, processes, process_id)
    elif int(os.environ.get('SLURM_NTASKS', 1)) > 1 or ',' in os.environ.get('TPU_WORKER_HOSTNAMES', ''):
        jax.distributed.initialize()
    if require and jax.default_backend() != require:
        raise UserError(
            f'--require={require}, but JAX sees only {jax.default_backend()}: '
            f'install jax for {require} (README, Accelerators) or drop the flag'
        )


def _shape(leaf, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _split(leaf: np.ndarray, devices: int) -> np.ndarray:
    """[steps, turns, B, ...] -> [devices, steps, turns, B / devices, ...]"""
    leaf = leaf.reshape(*leaf.shape[:2], devices, leaf.shape[2] // devices, *leaf.shape[3:])
    return leaf.transpose(2, 0, 1, *range(3, leaf.ndim))


def _split_largest(shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """The largest axis that the devices divide; everything small or odd stays whole."""
    axes = [axis for axis, length in enumerate(shape) if length % devices == 0]
    if int(np.prod(shape)) < SHARD_FROM or not axes:
        return PartitionSpec()
    largest = max(axes, key=lambda axis: shape[axis])
    return PartitionSpec(*(AXIS if axis == largest else None for axis in range(len(shape))))


def _global(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A host array that every process holds whole, laid out by `sharding`."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
