"""How fast the data comes: python benchmarks/data.py [--tfds DIR]

Prints examples/s of batches from memory, images/s of scenes drawn, and, given TFDS's data_dir, seconds to load MNIST.
One process; set OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 for figures of one core.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from a checkout

from genlab.data import Batches, load
from genlab.data.load import defaults
from genlab.data.source import from_arrays, image_field, label_field
from genlab.data.sources.scenes.scenes import declare, scenes


def rate(work, size, seconds=1.0):
    """Examples per second of work(number), which makes `size` examples; the best of five, for a busy machine."""
    number, best = 0, 0.0
    for _ in range(5):
        start, began = number, time.perf_counter()
        while time.perf_counter() - began < seconds / 5:
            work(number)
            number += 1
        best = max(best, (number - start) * size / (time.perf_counter() - began))
    return best


def memory():
    rng = np.random.default_rng(0)
    arrays = {'image': rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8), 'label': np.zeros(50_000, np.int32)}
    source = from_arrays('random', arrays, {'image': image_field(32, 3), 'label': label_field(10)})
    for size in (64, 256):
        for count in (1, 8):
            batches = Batches(source, size, seed=0)
            print(
                f'memory: batch {size:3}, {count} at a time: '
                f'{rate(lambda n: batches(n * count, count), size * count):9,.0f} examples/s of 32x32x3'
            )


def drawing():
    every = tuple(declare(32, 3))
    for resolution in (32, 64, 128):
        for fields in (('image', 'label'), every):
            source = scenes(resolution, fields=fields)
            indices = np.arange(256)
            print(
                f'scenes: {resolution:3} pixels, {len(fields)} fields: '
                f'{rate(lambda n: source.rows(indices + 256 * (n % 300)), 256):9,.0f} images/s'
            )


def streaming(workers):
    batches = Batches(scenes(32), 64, seed=0)
    with closing(batches.stream(0, 1, 2000, workers=workers)) as stream:
        next(stream)
        print(f'scenes: stream of batches of 64, {workers} workers: {rate(lambda n: next(stream), 64):9,.0f} images/s')


def mnist(folder):
    with tempfile.TemporaryDirectory() as cache:
        os.environ['GENLAB_CACHE'] = cache
        for state in ('decoded', 'from the cache'):
            began = time.perf_counter()
            load(defaults(source='tfds', name='mnist', dir=folder, resolution=28))
            print(f'mnist: 60,000 images {state} in {time.perf_counter() - began:.2f} s')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--tfds', default='', help='data_dir of TFDS with mnist in it')
    asked = parser.parse_args()
    memory()
    drawing()
    streaming(0)
    streaming(1)
    if asked.tfds:
        mnist(asked.tfds)
