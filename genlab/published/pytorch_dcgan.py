"""pytorch/examples, dcgan: `netG_epoch_*.pth` and `netD_epoch_*.pth`, state dicts without a configuration.

The layers are numbered. The generator's activation takes two numbers per level (ReLU), and so does the discriminator's
(LeakyReLU), whose first convolution has no normalisation. The last layer of the discriminator is a sigmoid there.
"""

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from genlab.networks.layers.resampling import doublings
from genlab.published.mapping import CONV, CONV_TRANSPOSE, SAME, Entry, Record, Table, norm

COUNTER = ('.num_batches_tracked',)


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables of the generator's and of the discriminator's file."""
    levels = doublings(config.data.resolution, 16)
    return {
        'generator': Table((*_generator(levels),), COUNTER),
        'discriminator': Table((*_discriminator(levels),), COUNTER),
    }


def _generator(levels: int) -> Iterator[Entry]:
    for i in range(levels + 1):
        yield Entry(f'main.{3 * i}.weight', f'generator/params/ConvTranspose_{i}/kernel', CONV_TRANSPOSE)
        if i < levels:
            yield from _batch_norm(f'main.{3 * i + 1}', 'generator', i)


def _discriminator(levels: int) -> Iterator[Entry]:
    for i in range(levels + 1):
        yield Entry(f'main.{max(3 * i - 1, 0)}.weight', f'discriminator/params/Conv_{i}/kernel', CONV)
        if 0 < i < levels:
            yield from _batch_norm(f'main.{3 * i}', 'discriminator', i - 1)


def _batch_norm(theirs: str, network: str, i: int) -> Iterator[Entry]:
    yield from norm(theirs, f'{network}/params/BatchNorm_{i}')
    for name, ours in (('running_mean', 'mean'), ('running_var', 'var')):
        yield Entry(f'{theirs}.{name}', f'{network}/batch_stats/BatchNorm_{i}/{ours}', SAME)


RECORD = Record('pytorch/examples (dcgan)', tables)
