"""Compares an upsampler with fixed interpolation on test pictures.

    python -m benchmarks.upsampler runs/gigagan-upsampler

Prints the peak signal-to-noise ratio and the mean absolute distance of 512 enlarged halves to the true pictures, pixels
in [-1, 1].
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import genlab
from genlab.networks.layers.resampling import double, halve
from genlab.sampling import drawing

COUNT = 512


def main() -> None:
    """Prints a row per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', help='folder of a run of configs/gigagan.py:upsampler')
    run = genlab.load(parser.parse_args().run)
    held_out = drawing.held_out(run.config, run.experiment.conditions)(np.arange(COUNT))
    true = jnp.asarray(held_out[run.config.model.input])
    half = halve(true)
    methods = {
        'upsampler': run.sample(COUNT, dtype='float32'),
        'cubic interpolation': jax.image.resize(half, true.shape, 'cubic'),
        'repeated pixels': double(half),
        'smooth doubling': double(half, smooth=True),
    }
    for name, images in methods.items():
        error = images - true
        ratio = 10 * np.log10(4 / np.square(error).mean())  # the range is 2
        print(f'{name:20} {ratio:5.1f} dB  {np.abs(error).mean():.3f}')


if __name__ == '__main__':
    main()
