"""openai/improved-diffusion: `cifar10_uncond_50M_500K.pt` and similar state dicts of averages, without a configuration.

The blocks of encoder and decoder are numbered in their order, resampling layers included. A channel of the packed layer
of attention is (head, one of query, key and value, channel) there. Networks with labels have no row for the null label
there, and are refused.
"""

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.networks.diffusion.unet import UNet
from genlab.published.mapping import (
    CONV,
    CONV1D_DENSE,
    DENSE,
    SAME,
    Entry,
    Record,
    Table,
    affine,
    norm,
    packed,
)

ORDER = ('head', 'part', 'channel')


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the table of the network."""
    if config.model.classes:
        raise ConfigError(f'config.model.classes={config.model.classes}: this record reads networks without labels')
    return {'unet': Table((*_unet(config),))}


def _unet(config: ConfigDict) -> Iterator[Entry]:
    network, ours = config.model.network, 'denoiser/params'
    levels, heads, side = len(network.multipliers), network.heads, config.data.resolution // network.patch
    widths = [network.width * multiplier for multiplier in network.multipliers]
    attends = [heads * (side >> i in network.attention) for i in range(levels)]
    yield from affine('time_embed.0', f'{ours}/level_0', DENSE)
    yield from affine('time_embed.2', f'{ours}/level_1', DENSE)
    yield from affine('input_blocks.0.0', f'{ours}/input', CONV)
    number, last = 1, network.width
    for i in range(levels):
        for j in range(network.blocks):
            yield from _block(f'input_blocks.{number}', f'{ours}/down_{i}_{j}', last != widths[i], attends[i])
            number, last = number + 1, widths[i]
        if i < levels - 1:
            yield from affine(f'input_blocks.{number}.0.op', f'{ours}/down_{i + 1}', CONV)
            number += 1
    yield from _residual('middle_block.0', f'{ours}/middle_0', False)
    yield from _attention('middle_block.1', f'{ours}/middle_0', heads)
    yield from _residual('middle_block.2', f'{ours}/middle_1', False)
    number = 0
    for i in reversed(range(levels)):
        for j in range(network.blocks + 1):  # the input of each block is joined with a skip
            yield from _block(f'output_blocks.{number}', f'{ours}/up_{i}_{j}', True, attends[i])
            number += 1
        if i:
            place = 2 if attends[i] else 1  # behind the block of the level's last entry
            yield from affine(f'output_blocks.{number - 1}.{place}.conv', f'{ours}/up_{i}', CONV)
    yield from norm('out.0', f'{ours}/normalization')
    yield from affine('out.2', f'{ours}/output', CONV)


def _block(theirs: str, ours: str, shortcut: bool, heads: int) -> Iterator[Entry]:
    yield from _residual(f'{theirs}.0', ours, shortcut)
    if heads:
        yield from _attention(f'{theirs}.1', ours, heads)


def _residual(theirs: str, ours: str, shortcut: bool) -> Iterator[Entry]:
    for j, (part, convolution) in enumerate((('in_layers', 2), ('out_layers', 3))):
        yield from norm(f'{theirs}.{part}.0', f'{ours}/normalization_{j}')
        yield from affine(f'{theirs}.{part}.{convolution}', f'{ours}/convolution_{j}', CONV)
    yield from affine(f'{theirs}.emb_layers.1', f'{ours}/embedding', DENSE)
    if shortcut:
        yield from affine(f'{theirs}.skip_connection', f'{ours}/shortcut', CONV)


def _attention(theirs: str, ours: str, heads: int) -> Iterator[Entry]:
    yield from norm(f'{theirs}.norm', f'{ours}/attention_normalization')
    joined = f'{ours}/attention/query_key_value'
    yield Entry(f'{theirs}.qkv.weight', f'{joined}/kernel', packed(CONV1D_DENSE, heads, ORDER))
    yield Entry(f'{theirs}.qkv.bias', f'{joined}/bias', packed(SAME, heads, ORDER))
    yield from affine(f'{theirs}.proj_out', f'{ours}/attention/output', CONV1D_DENSE)


RECORD = Record('openai/improved-diffusion', tables, modules={'model.network': UNet})
