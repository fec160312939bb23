"""Repeats a block over stacked parameters, so that a network of any depth compiles one block."""

import jax
from flax import linen as nn


def repeat(
    block: nn.Module, depth: int, x: jax.Array, *inputs: jax.Array | None, unrolled: bool = False, remat: bool = False
) -> jax.Array:
    """Applies `depth` copies of a block, each with parameters of its own: x = block_i(x, *inputs).

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

    if unrolled and not block.is_initializing():
        return _unrolled(block, depth, x, inputs, remat)

    def body(block, x, *inputs):
        return block(x, *inputs), None

    # A loop protects the recomputation from common-subexpression elimination.
    scan = nn.scan(
        nn.remat(body, prevent_cse=False) if remat else body,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=nn.broadcast,
        length=depth,
    )
    return scan(block, x, *inputs)[0]


def _unrolled(block: nn.Module, depth: int, x: jax.Array, inputs: tuple, remat: bool) -> jax.Array:
    """Applies the copies one after another.

    An unrolled scan would stack what the gradient needs of each copy. `lax.split` splits all rows at once, so that the
    gradients of the rows are concatenated. Indexing would add `depth` arrays of the full size instead.
    """
    leaves, tree = jax.tree.flatten(block.variables['params'])
    rows = [[row[0] for row in jax.lax.split(leaf, [1] * depth)] for leaf in leaves]
    single = block.clone(parent=None, name=None)

    def one(params, x):
        return single.apply({'params': params}, x, *inputs)

    for number in range(depth):
        params = jax.tree.unflatten(tree, [row[number] for row in rows])
        x = (jax.checkpoint(one) if remat else one)(params, x)
    return x
