"""Placements of states and batches on devices: the only file that knows about devices.

A placement lays a state and a batch over devices and compiles a step for them. `pmapped` keeps a copy of the state on
every device. `sharded` also splits large arrays over the devices (FSDP), and matrix products over a second axis of the
mesh (tensor parallelism). Both give the numbers of one device. Steps are compiled ahead of time. A compiled pmap takes
and returns global arrays as jit does, with several processes too. Devices are an argument: this machine's, or those of
a TPU topology that is only compiled for (`genlab.training.plan`).
"""

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genlab.errors import ConfigError, UserError, choose

AXIS, TENSOR = 'batch', 'tensor'  # of a mesh
LEVEL = 'xla_backend_optimization_level'
IN_FLIGHT = 16  # calls: enough to hide the host behind the devices
SHARD_FROM = 2**14  # elements; smaller arrays cost more to gather than to keep everywhere

Tree = Any


class Placement(NamedTuple):
    """The layout of a run over its devices.

    It compiles calls `(carry, batches, constants) -> carry`, whose batches have leaves [steps, turns, B, ...].
    """

    axis: str | None  # the name to take means over inside a step: 'batch' under pmap, None under jit
    parts: int  # parts of a batch: one per device, or one per `tensor` devices, which share its rows
    mesh: Mesh
    shardings: Callable[[Tree], Tree]  # arrays or shapes of a state -> their shardings
    compile: Callable[[Callable, Tree], Any]  # (call, carry) -> a function with `.lower(carry, batches, constants)`
    put: Callable[[Tree], Tree]  # this process's rows of a batch -> what a compiled call takes
    shapes: Callable[[Tree], Tree]  # shapes of a global batch -> the shapes of what a compiled call takes
    outline: Callable[..., Tree]  # (call, state, batches, constants), host arrays or shapes -> shapes of the result


def pmapped(devices: list) -> Placement:
    """Returns the placement with a copy of the state on every device and the batch split over them, by `jax.pmap`."""
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
        axes = None, 0, None
        if jax.process_count() > 1:  # an abstract pmap wants local shapes there; a vmap traces the step once more
            return jax.eval_shape(jax.vmap(call, axes, 0, axis_name=AXIS), state, shapes(batches), constants)
        mapped = jax.pmap(call, axis_name=AXIS, in_axes=axes, out_axes=None, devices=devices)
        return jax.eval_shape(mapped, state, shapes(batches), constants)

    local = sum(device.process_index == jax.process_index() for device in devices)
    return Placement(
        AXIS, len(devices), mesh, lambda tree: jax.tree.map(lambda _: everywhere, tree), compile, put, shapes, outline
    )


def sharded(devices: list, tensor: int = 1) -> Placement:
    """Returns the placement that splits large arrays of the state as well as the batch: FSDP by `jax.jit` on a mesh.

    Groups of `tensor` devices share the rows of a batch. XLA splits their matrix products as the weights are split.
    """
    mesh = Mesh(np.array(devices).reshape(-1, tensor), (AXIS, TENSOR))
    rows = NamedSharding(mesh, PartitionSpec(None, None, AXIS))

    def shardings(tree):
        return jax.tree.map(lambda leaf: NamedSharding(mesh, _split_largest(leaf.shape, mesh)), tree)

    def within(call):
        def inner(*arguments):
            with nn.intercept_methods(partial(_keep_rows, mesh)):
                return call(*arguments)

        return inner

    def compile(call, carry):
        return jax.jit(
            within(call),
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
        return jax.eval_shape(within(call), placed, shapes(batches), replicated)

    return Placement(None, mesh.shape[AXIS], mesh, shardings, compile, put, shapes, outline)


PLACEMENTS = {'pmap': pmapped, 'fsdp': sharded}


def place(name: str, devices: list | None = None, tensor: int = 1) -> Placement:
    """Returns the placement of `config.placement` and `config.tensor`.

    Args:
      name: a key of PLACEMENTS.
      devices: None for all devices of the run.
      tensor: devices that split the matrix products of one part of the batch; 1: every device has a part of its own.

    Raises:
      ConfigError: there is no such placement, or `tensor` does not suit it or the devices.
    """
    make = choose(PLACEMENTS, name, 'config.placement')
    # Devices of a process are neighbours, so that its rows of a batch are too.
    devices = sorted(
        jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id)
    )
    if tensor != 1:
        parts(name, len(devices), tensor)
        _check_tensor(tensor, devices)
        return sharded(devices, tensor)
    # One device needs no collectives, and their cost dominates small steps.
    return sharded(devices) if len(devices) == 1 else make(devices)


def parts(name: str, devices: int, tensor: int) -> int:
    """Returns into how many parts a batch is split, given `config.placement`, the devices and `config.tensor`.

    Raises:
      ConfigError: `tensor` does not suit the placement or the number of devices.
    """
    if tensor < 1 or devices % tensor:
        raise ConfigError(f'config.tensor={tensor} does not divide the {devices} devices: take a divisor of them')
    if tensor != 1 and PLACEMENTS[name] is not sharded:
        raise ConfigError(f'config.tensor={tensor} needs config.placement=fsdp')
    return devices // tensor


def _check_tensor(tensor: int, devices: list) -> None:
    """Raises ConfigError if `tensor` devices cannot form a group of one process, or of whole processes."""
    local = sum(device.process_index == devices[0].process_index for device in devices)
    if local % tensor and tensor % local:
        raise ConfigError(
            f'config.tensor={tensor} does not suit {local} devices per process: take a divisor or a multiple of them'
        )


def initial(placement: Placement, make: Callable[[], Tree]) -> Tree:
    """Computes `make()` on the devices that keep it; no device ever holds more than its share.

    It runs once: on a CPU it is compiled with few optimisations, which takes a quarter of the time for the same
    numbers. A level in XLA_FLAGS has precedence."""
    cpu = placement.mesh.devices.flat[0].platform == 'cpu'
    chosen = LEVEL in os.environ.get('XLA_FLAGS', '')
    quick: dict[str, str | bool] | None = {LEVEL: '1'} if cpu and not chosen else None
    shardings = placement.shardings(jax.eval_shape(make))
    return jax.jit(make, out_shardings=shardings, compiler_options=quick)()


def replicated(placement: Placement, tree: Tree) -> Tree:
    """Returns the shapes and shardings of the result of `replicate`."""
    return jax.tree.map(lambda leaf: _shape(leaf, NamedSharding(placement.mesh, PartitionSpec())), tree)


def laid_out(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """Lays out a host array, which every process holds in full, by `sharding`."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicate(placement: Placement, tree: Tree) -> Tree:
    """Copies host arrays, which every process holds in full, to every device of the placement."""
    return jax.tree.map(lambda leaf: laid_out(leaf, NamedSharding(placement.mesh, PartitionSpec())), tree)


def template(placement: Placement, tree: Tree) -> Tree:
    """Returns the shapes and shardings of a state, which a checkpoint is restored into."""
    return jax.tree.map(_shape, tree, placement.shardings(tree))


def run(placement: Placement, function: Callable, variables: Tree, examples: Tree) -> Tree:
    """Computes `function(variables, examples)` on the devices of the placement.

    Args:
      placement: placement of the variables.
      function: a `jax.jit` that the caller keeps, so that it compiles once.
      variables: variables of the model, on the devices.
      examples: arrays or typed keys with leaves [N, ...]; split over all devices if they divide N.

    Returns:
      Host arrays.
    """
    size = placement.mesh.size

    def spread(leaf):
        rows = PartitionSpec(placement.mesh.axis_names) if leaf.shape[0] % size == 0 else PartitionSpec()
        sharding = NamedSharding(placement.mesh, rows)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(laid_out(np.asarray(jax.random.key_data(leaf)), sharding))
        return laid_out(np.asarray(leaf), sharding)

    return to_host(function(variables, jax.tree.map(spread, examples)))


def to_host(tree: Tree) -> Tree:
    """Returns the full arrays as numpy, gathered from other processes where this one holds only a part."""
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def process_rows(batch_size: int, parts: int, microbatches: int = 1) -> slice:
    """Returns the rows of each global batch that this process loads.

    Args:
      batch_size: examples per global batch.
      parts: number of parts of a batch in the placement. Processes whose devices share a part load the same rows.
      microbatches: per batch.

    Raises:
      ConfigError: the batch does not divide over parts and microbatches.
    """
    if batch_size % (parts * microbatches):
        raise ConfigError(
            f'config.data.batch_size={batch_size} does not divide over {parts} devices x '
            f'{microbatches} microbatches: take a multiple of {parts * microbatches}'
        )
    groups = min(parts, jax.process_count())
    share = batch_size // groups
    start = jax.process_index() * groups // jax.process_count() * share
    return slice(start, start + share)


class Throttle:
    """Bounds the calls that are dispatched but not done to `IN_FLIGHT`, without ever draining the devices.

    XLA's CPU client blocks a thread of its pool when 32 computations of a device are in flight. Two devices in each of
    two processes then deadlock: the blocked thread is the one that the collective in progress needs. Elsewhere the
    bound keeps few batches in memory, and answers a signal soon.
    """

    def __init__(self) -> None:
        self.calls, self.mark = 0, None
        self.copy = jax.jit(jnp.copy)

    def __call__(self, step: jax.Array) -> None:
        """Notes a call, and waits if too many are in flight.

        Args:
          step: a scalar that the call returned. It is copied, because the next call may take its memory.
        """
        self.calls += 1
        if self.calls % (IN_FLIGHT // 2) == 0:
            jax.block_until_ready(self.mark)
            self.mark = self.copy(step)


def agree(flag: bool) -> bool:
    """Returns whether the flag is set in any process: the same answer in all of them."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def start(coordinator: str, processes: int, process_id: int, require: str, heartbeat: int) -> None:
    """Joins the other processes of a run, if any, and checks the kind of device.

    Args:
      coordinator: host:port of process 0; '' without several processes, or where the cluster's environment names it.
      processes: number of processes.
      process_id: number of this process, from 0.
      require: 'cpu', 'gpu' or 'tpu'; '' accepts any.
      heartbeat: seconds of silence after which JAX takes a process for dead, and aborts the others.
    """
    if coordinator:
        jax.distributed.initialize(coordinator, processes, process_id, heartbeat_timeout_seconds=heartbeat)
    elif int(os.environ.get('SLURM_NTASKS', 1)) > 1 or ',' in os.environ.get('TPU_WORKER_HOSTNAMES', ''):
        jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts if the requested platform is not installed
        chosen = os.environ.get('JAX_PLATFORMS')
        raise UserError(
            f'JAX cannot open a device ({" ".join(str(error).split())[:200] or "none is there"}): '
            f'{f"unset JAX_PLATFORMS={chosen}" if chosen else "set JAX_PLATFORMS=cpu"}, '
            'or install jax for the device (README, Accelerators)'
        ) from error
    if require and jax.default_backend() != require:
        raise UserError(
            f'--require={require}, but JAX sees only {jax.default_backend()}: '
            f'install jax for {require} (README, Accelerators) or drop the flag'
        )


def _shape(leaf, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _keep_rows(mesh: Mesh, call: Callable, args: tuple, kwargs: dict, context: Any) -> Tree:
    """Calls a module of a network, and keeps the rows of its outputs [B, ...] split over the devices as the batch is.

    The weights of a module are then gathered where it is called. Without it, the compiler also splits activations as
    the weights are split, and moves them between devices by all-to-all and collective-permute. Features, the last axis,
    may be split over TENSOR.
    """
    output = call(*args, **kwargs)
    if context.method_name != '__call__':
        return output

    def keep(leaf):
        if getattr(leaf, 'ndim', 0) < 2 or leaf.shape[0] % mesh.shape[AXIS]:
            return leaf
        features = PartitionSpec.UNCONSTRAINED if mesh.shape[TENSOR] > 1 else None
        spec = PartitionSpec(AXIS, *[None] * (leaf.ndim - 2), features)
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(keep, output)


def _split(leaf: np.ndarray, devices: int) -> np.ndarray:
    """Splits [steps, turns, B, ...] to [devices, steps, turns, B / devices, ...]."""
    leaf = leaf.reshape(*leaf.shape[:2], devices, leaf.shape[2] // devices, *leaf.shape[3:])
    return leaf.transpose(2, 0, 1, *range(3, leaf.ndim))


def _split_largest(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Splits the largest axis that TENSOR divides, and the largest of the others that AXIS divides.

    So the first layer of a perceptron is split by its outputs and the second by its inputs. The hidden units between
    them stay on their devices (Shoeybi et al. 2019, section 3). Small arrays are replicated.
    """
    axes: list[str | None] = [None] * len(shape)
    for name in (TENSOR, AXIS) if math.prod(shape) >= SHARD_FROM else ():
        free = [axis for axis, length in enumerate(shape) if axes[axis] is None and length % mesh.shape[name] == 0]
        if free and mesh.shape[name] > 1:
            # Of equal axes, TENSOR takes the outputs, which are last.
            axes[max(free, key=lambda axis: (shape[axis], axis if name == TENSOR else -axis))] = name
    return PartitionSpec(*axes) if any(axes) else PartitionSpec()
