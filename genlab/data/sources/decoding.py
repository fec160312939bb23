"""Decodes many images or clips in threads; Pillow and numpy release Python's lock while they work."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

IN_MEMORY = 2 << 30  # bytes; decoded sets up to this size are kept in memory
BLOCK = 256  # examples that a thread decodes at a time


def fits(length: int, resolution: int, channels: int) -> bool:
    """Returns whether decoded images are kept in memory.

    Args:
        length: number of images.
        resolution: pixels per side.
        channels: 1 or 3.
    """
    return length * resolution * resolution * channels <= IN_MEMORY


def decode_all(name: str, length: int, block: Callable[[int, int], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Decodes a set in threads, block by block.

    Args:
        name: name of the set, for the log.
        length: number of examples, N.
        block: (start, stop) -> {field: [stop - start, ...]}.

    Returns:
        {field: [N, ...]}.
    """
    began = time.perf_counter()
    starts = range(0, length, BLOCK)
    with ThreadPoolExecutor(max(1, min(16, os.cpu_count() or 1))) as pool:
        parts = list(pool.map(lambda start: block(start, min(start + BLOCK, length)), starts))
    arrays = {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}
    seconds = time.perf_counter() - began
    logging.info('%s: decoded %d examples in %.1f s, %.0f per second', name, length, seconds, length / seconds)
    return arrays
