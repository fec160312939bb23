"""Many examples through a compiled function, block by block."""

from collections.abc import Callable

import jax
import numpy as np


def in_blocks(function: Callable, examples: np.ndarray, block: int) -> np.ndarray:
    """The outputs [N, ...] of function [block, ...] -> [block, ...] over examples [N, ...] as float32, of which N > 0.

    The last block is filled up with zeros, so that one shape is compiled. A block is under way while the one before it
    is fetched. Products are in full float32: a figure must not depend on what a device rounds them to."""
    outputs, running = [], None
    with jax.default_matmul_precision('highest'):
        for first in range(0, len(examples), block):
            part = np.asarray(examples[first : first + block], np.float32)
            ahead = function(np.concatenate([part, np.zeros((block - len(part), *part.shape[1:]), np.float32)]))
            if running is not None:
                outputs.append(np.asarray(running))
            running = ahead
    return np.concatenate([*outputs, np.asarray(running)])[: len(examples)]
