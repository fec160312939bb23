"""Applies a compiled function to many examples, block by block."""

from collections.abc import Callable

import jax
import numpy as np


def in_blocks(function: Callable, examples: np.ndarray, block: int) -> np.ndarray:
    """Returns the outputs [N, ...] of `function` on examples [N, ...], converted to float32, N > 0.

    The last block is padded with zeros, so that one shape is compiled. The next block is dispatched before the previous
    one is fetched. Matrix products are in full float32, so that a figure does not depend on the default precision of a
    device.

    Args:
      function: [block, ...] -> [block, ...].
      examples: [N, ...].
      block: examples per call.
    """
    outputs: list[np.ndarray] = []
    running = None
    with jax.default_matmul_precision('highest'):
        for first in range(0, len(examples), block):
            part = np.asarray(examples[first : first + block], np.float32)
            ahead = function(np.concatenate([part, np.zeros((block - len(part), *part.shape[1:]), np.float32)]))
            if running is not None:
                outputs.append(np.asarray(running))
            running = ahead
    return np.concatenate([*outputs, np.asarray(running)])[: len(examples)]
