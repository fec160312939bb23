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

    def body(block, x, *inputs):
        return block(x, *inputs), None

    if remat:  # a loop protects the recomputation from common-subexpression elimination, straight code does not
        body = nn.remat(body, prevent_cse=unrolled)
    scan = nn.scan(
        body,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=nn.broadcast,
        length=depth,
        unroll=depth if unrolled else 1,
    )
    return scan(block, x, *inputs)[0]
