"""junyanz/pytorch-CycleGAN-and-pix2pix, pix2pix: `latest_net_G.pth` and `latest_net_D.pth`, without a configuration.

The layers are numbered in the order of a torch.nn.Sequential, with activations and paddings. A block of the U-Net holds
the next one. With batches of one, batch normalisation takes the statistics of the image, so running ones are left out.
`genlab.published.cyclegan` has the same networks.
"""

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from genlab.networks.layers.normalization import biased
from genlab.networks.translation.resnet import HALVINGS
from genlab.published.mapping import CONV, CONV_TRANSPOSE, SAME, Entry, Record, Table, affine, norm

STATISTICS = ('mean', 'var')  # running_* there
COUNTER = '.num_batches_tracked'


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables of both files."""
    return {'G': generator(config, 'generator'), 'D': discriminator(config, 'discriminator')}


def generator(config: ConfigDict, network: str) -> Table:
    """Returns the table of a generator, a U-Net or a residual network; `network` is our name of it."""
    chosen = config.model.generator
    return _table((*GENERATORS[chosen.name](chosen, network),), chosen.normalization)


def discriminator(config: ConfigDict, network: str) -> Table:
    """Returns the table of a discriminator of patches; `network` is our name of it."""
    chosen = config.model.discriminator
    return _table((*patches('model', network, chosen.layers, chosen.normalization),), chosen.normalization)


def _table(entries: tuple[Entry, ...], kind: str) -> Table:
    unused = () if kind == 'batch' else tuple(f'.running_{name}' for name in STATISTICS)
    return Table(entries, (COUNTER, *unused))


def _unet(chosen: ConfigDict, network: str) -> Iterator[Entry]:
    kind, bias, last = chosen.normalization, biased(chosen.normalization), chosen.depth - 1
    block, ours = 'model.model', f'{network}/params'
    for i in range(chosen.depth):
        down, up = ours + f'/down_{i}', f'{ours}/up_{i - 1}' if i else f'{ours}/output'
        # The first block has no activation before its convolution, and the last one holds no other block.
        yield from affine(f'{block}.{int(i > 0)}', down, CONV, bias)
        if 0 < i < last:
            yield from _normalization(f'{block}.2', network, f'down_normalization_{i}', kind)
        upward = 3 if i in (0, last) else 5
        yield from affine(f'{block}.{upward}', up, CONV_TRANSPOSE, bias or not i)
        if i:
            yield from _normalization(f'{block}.{upward + 1}', network, f'up_normalization_{i - 1}', kind)
        block += f'.{3 if i else 1}.model'


def _resnet(chosen: ConfigDict, network: str) -> Iterator[Entry]:
    kind, bias, ours = chosen.normalization, biased(chosen.normalization), f'{network}/params'
    for i in range(HALVINGS + 1):  # a convolution, a normalisation and an activation each
        layer, suffix = ('down', f'_{i - 1}') if i else ('input', '')
        yield from affine(f'model.{3 * i + 1}', f'{ours}/{layer}{suffix}', CONV, bias)
        yield from _normalization(f'model.{3 * i + 2}', network, f'{layer}_normalization{suffix}', kind)
    number = 3 * HALVINGS + 4
    for i in range(chosen.blocks):
        for j in (0, 1):
            layer = f'model.{number + i}.conv_block.{4 * j + 1}'
            yield from affine(layer, f'{ours}/convolution_{i}_{j}', CONV, bias)
            layer = f'model.{number + i}.conv_block.{4 * j + 2}'
            yield from _normalization(layer, network, f'normalization_{i}_{j}', kind)
    number += chosen.blocks
    for i in reversed(range(HALVINGS)):
        yield from affine(f'model.{number}', f'{ours}/up_{i}', CONV_TRANSPOSE, bias)
        yield from _normalization(f'model.{number + 1}', network, f'up_normalization_{i}', kind)
        number += 3
    yield from affine(f'model.{number + 1}', f'{ours}/output', CONV)


def patches(theirs: str, network: str, layers: int, kind: str) -> Iterator[Entry]:
    """Yields the tensors of a discriminator of patches.

    Args:
      theirs: name of its Sequential.
      network: our name of it.
      layers: number of its convolutions with a normalisation.
      kind: of the normalisations, one of `normalization.KINDS`.
    """
    ours = f'{network}/params'
    yield from affine(f'{theirs}.0', f'{ours}/input', CONV)
    for i in range(1, layers + 1):
        yield from affine(f'{theirs}.{3 * i - 1}', f'{ours}/convolution_{i}', CONV, biased(kind))
        yield from _normalization(f'{theirs}.{3 * i}', network, f'normalization_{i}', kind)
    yield from affine(f'{theirs}.{3 * layers + 2}', f'{ours}/output', CONV)


def _normalization(theirs: str, network: str, name: str, kind: str) -> Iterator[Entry]:
    """Yields what a normalisation of one of `normalization.KINDS` has."""
    if kind != 'instance':
        yield from norm(theirs, f'{network}/params/{name}')
    if kind == 'batch':
        for statistic in STATISTICS:
            yield Entry(f'{theirs}.running_{statistic}', f'{network}/batch_stats/{name}/{statistic}', SAME)


GENERATORS = {'unet': _unet, 'resnet': _resnet}
RECORD = Record('junyanz/pytorch-CycleGAN-and-pix2pix (pix2pix)', tables)
