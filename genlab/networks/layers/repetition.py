"""Repeats a block over stacked parameters, so that a network of any depth compiles one block."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def repeat(
    block: nn.Module, depth: int, x: jax.Array, *inputs: jax.Array | None, unrolled: bool = False, remat: bool = False
) -> jax.Array:
    """Applies `depth` copies of a block, each with its own parameters: x = block_i(x, *inputs).

    The parameters of the copies are stacked: they have the paths of one block, and shapes [depth, ...]. Copy i has row
    i. The layout does not depend on `unrolled`, so a checkpoint suits both.

    Args:
        block: a module of the calling module, with parameters and no other variables. It returns the shape of x.
        depth: number of copies.
        x: input of the first copy.
        *inputs: further inputs, the same for every copy.
        unrolled: compile every copy, instead of one as the body of a loop. Faster to run for small networks on a CPU.
        remat: store only the inputs of the copies, and recompute the rest for gradients.

    Returns:
        The output of the last copy.
    """
    call = lambda block, x, row, *inputs: (block(x, *inputs), None)
    return _repeat(call, block, depth, x, None, inputs, unrolled, remat)[0]


def repeat_with_rows(
    block: nn.Module,
    depth: int,
    x: jax.Array,
    rows: Any,
    *inputs: Any,
    outputs: bool = False,
    unrolled: bool = False,
    remat: bool = False,
) -> tuple[jax.Array, Any]:
    """Does the same as `repeat`, with inputs and outputs per copy: x, output_i = block_i(x, row_i, *inputs).

    Args:
        block: as for `repeat`. It returns the new x and a pytree.
        depth: number of copies.
        x: input of the first copy.
        rows: pytree with leaves [depth, ...], of which copy i takes row i.
        *inputs: further inputs, the same for every copy.
        outputs: whether to return the outputs of the copies; otherwise they are dropped.
        unrolled: as for `repeat`.
        remat: as for `repeat`.

    Returns:
        The last x, and the outputs with leaves [depth, ...], or None.
    """

    def call(block, x, row, *inputs):
        x, output = block(x, row, *inputs)
        return x, output if outputs else None

    return _repeat(call, block, depth, x, rows, inputs, unrolled, remat)


def _repeat(
    call: Callable, block: nn.Module, depth: int, x: Any, rows: Any, inputs: tuple, unrolled: bool, remat: bool
) -> tuple[Any, Any]:
    """Applies call(block_i, x, row_i, *inputs) -> (x, output_i) of every copy: (x, stacked outputs)."""
    if unrolled and not block.is_initializing():
        return _unrolled(call, block, depth, x, rows, inputs, remat)
    # A loop protects the recomputation from common-subexpression elimination.
    scan = nn.scan(
        nn.remat(call, prevent_cse=False) if remat else call,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=(0, *[nn.broadcast] * len(inputs)),
        length=depth,
    )
    return scan(block, x, rows, *inputs)


def _unrolled(
    call: Callable, block: nn.Module, depth: int, x: Any, rows: Any, inputs: tuple, remat: bool
) -> tuple[Any, Any]:
    """Applies the copies one after another. An unrolled scan would stack what the gradient needs of each copy."""
    params = split_copies(block.variables['params'], depth)
    split = [jax.tree.map(lambda leaf, number=number: leaf[number], rows) for number in range(depth)]
    x, outputs = _apply_in_turn(call, block, params, x, split, inputs, remat)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def split_copies(params: Any, depth: int) -> list[Any]:
    """Splits stacked parameters, leaves [depth, ...], into those of each copy.

    `lax.split` splits all rows at once, so that the gradients of the rows are concatenated. Indexing would add `depth`
    arrays of the full size instead.
    """
    leaves, tree = jax.tree.flatten(params)
    parts = [[row[0] for row in jax.lax.split(leaf, [1] * depth)] for leaf in leaves]
    return [jax.tree.unflatten(tree, [part[number] for part in parts]) for number in range(depth)]


def apply_in_turn(
    block: nn.Module, params: Sequence[Any], x: jax.Array, rows: Sequence[Any], *inputs: Any
) -> tuple[jax.Array, list[Any]]:
    """Does the same as `repeat_with_rows`, with parameters, rows and outputs that are not stacked.

    A loop around this call reads and writes them in place. Stacked arrays would be copied layer by layer.

    Args:
        block: as for `repeat_with_rows`.
        params: parameters of the copies, see `split_copies`.
        x: input of the first copy.
        rows: rows of the copies, pytrees.
        *inputs: further inputs, the same for every copy.

    Returns:
        The last x, and the output of each copy.
    """
    return _apply_in_turn(lambda block, *given: block(*given), block, params, x, rows, inputs, False)


def _apply_in_turn(
    call: Callable, block: nn.Module, params: Sequence, x: Any, rows: Sequence, inputs: tuple, remat: bool
) -> tuple[Any, list[Any]]:
    single, outputs = nn.apply(call, block.clone(parent=None, name=None)), []

    def one(params, x, row):
        return single({'params': params}, x, row, *inputs)

    for own, row in zip(params, rows, strict=True):
        x, output = (jax.checkpoint(one) if remat else one)(own, x, row)
        outputs.append(output)
    return x, outputs
