"""Measures the speed of data loading: python benchmarks/data.py [--tfds DIR]

Prints examples/s of batches from memory and images/s of generated scenes. With --tfds it also prints the seconds to
load MNIST. It uses one process; OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 limits it to one core.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from a checkout

from genlab.data import Batches, load
from genlab.data.load import defaults
from genlab.data.source import from_arrays, image_field, label_field
from genlab.data.sources.scenes.scenes import declare, scenes


def rate(work: Callable[[int], object], size: int, seconds: float = 1.0) -> float:
    """Returns examples per second, the best of five measurements.

    Args:
      work: makes examples; called with 0, 1, ...
      size: examples per call.
      seconds: duration of all measurements.
    """
    number, best = 0, 0.0
    for _ in range(5):
        start, began = number, time.perf_counter()
        while time.perf_counter() - began < seconds / 5:
            work(number)
            number += 1
        best = max(best, (number - start) * size / (time.perf_counter() - began))
    return best


def memory() -> None:
    """Prints the rate of batches from arrays in memory."""
    rng = np.random.default_rng(0)
    arrays = {'image': rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8), 'label': np.zeros(50_000, np.int32)}
    source = from_arrays('random', arrays, {'image': image_field(32, 3), 'label': label_field(10)})
    for size in (64, 256):
        for count in (1, 8):
            batches = Batches(source, size, seed=0)
            print(
                f'memory: batch {size:3}, {count} per call: '
                f'{rate(lambda n: batches(n * count, count), size * count):9,.0f} examples/s of 32x32x3'
            )


def drawing() -> None:
    """Prints the rate of scenes by resolution and number of fields."""
    every = tuple(declare(32, 3))
    for resolution in (32, 64, 128):
        for fields in (('image', 'label'), every):
            source = scenes(resolution, fields=fields)
            indices = np.arange(256)
            print(
                f'scenes: {resolution:3} pixels, {len(fields)} fields: '
                f'{rate(lambda n: source.rows(indices + 256 * (n % 300)), 256):9,.0f} images/s'
            )


def streaming(workers: int) -> None:
    """Prints the rate of a stream of scenes, read ahead by a number of worker processes."""
    batches = Batches(scenes(32), 64, seed=0)
    with closing(batches.stream(0, 1, 2000, workers=workers)) as stream:
        next(stream)
        print(f'scenes: stream of batches of 64, {workers} workers: {rate(lambda n: next(stream), 64):9,.0f} images/s')


def mnist(folder: str) -> None:
    """Prints the time to load MNIST from TFDS, first decoded and then from the cache; folder: its data_dir."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ['GENLAB_CACHE'] = cache
        for state in ('decoded', 'from the cache'):
            began = time.perf_counter()
            load(defaults(source='tfds', name='mnist', dir=folder, resolution=28))
            print(f'mnist: 60,000 images {state} in {time.perf_counter() - began:.2f} s')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--tfds', default='', help='data_dir of TFDS that contains mnist')
    options = parser.parse_args()
    memory()
    drawing()
    streaming(0)
    streaming(1)
    if options.tfds:
        mnist(options.tfds)
