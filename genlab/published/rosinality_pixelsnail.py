"""rosinality/vq-vae-2-pytorch: `pixelsnail_top_*.pt` and `pixelsnail_bottom_*.pt`, its priors, with their arguments.

A file holds `model` and `args`. Kernel size 5, 4 blocks and 8 heads stand in the peer's code.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.networks.autoregressive.pixelsnail import PixelSNAIL
from genlab.published.mapping import CONV, CONV_DENSE, DENSE, Entry, Keys, Record, Table, weight_norm

POSITIONS = ('background',)  # a buffer that the grid determines
LEVELS = {'top': 'network', 'bottom': 'lower'}  # name of our network -> key of its options


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables of the priors of both grids; of one prior without a lower grid, its own."""
    kinds = LEVELS if config.model.lower.name != 'none' else {'prior': 'network'}
    return {
        name: Table((*_entries(config.model[key], name),), POSITIONS, sections=(('model',), ()))
        for name, key in kinds.items()
    }


def _entries(network: ConfigDict, name: str) -> Iterator[Entry]:
    ours = f'{name}/params'
    yield from weight_norm('horizontal.conv.conv', f'{ours}/above', CONV)
    yield from weight_norm('vertical.conv.conv', f'{ours}/left', CONV)
    conditioned = name == 'bottom'
    for i in range(network.blocks):
        block = f'{ours}/stack_{i}'
        for j in range(network.residual_blocks):
            theirs = f'blocks.{i}.resblocks.{j}'
            yield from _gated(theirs, f'{block}/residual_{j}', 'conv.conv', CONV)
            if conditioned:
                yield from weight_norm(
                    f'{theirs}.condition.conv', f'{block}/residual_{j}/conditioned', CONV_DENSE, False
                )
        if not network.attention:
            yield from weight_norm(f'blocks.{i}.out.conv', f'{block}/output', CONV_DENSE)
            continue
        for theirs, field in (('key', 'key'), ('query', 'query'), ('out', 'output')):
            yield from _gated(f'blocks.{i}.{theirs}_resblock', f'{block}/{field}', 'conv', CONV_DENSE)
        for field in ('query', 'key', 'value'):
            yield from weight_norm(f'blocks.{i}.causal_attention.{field}', f'{block}/attend/{field}', DENSE)
        yield from weight_norm(f'blocks.{i}.out_resblock.aux_conv.conv', f'{block}/output/beside', CONV_DENSE)
    if conditioned:
        yield from weight_norm('cond_resnet.blocks.0.conv', f'{ours}/context_network/input', CONV)
        for j in range(network.context_blocks):
            yield from _gated(f'cond_resnet.blocks.{j + 1}', f'{ours}/context_network/residual_{j}', 'conv', CONV)
    for j in range(network.output_blocks):
        yield from _gated(f'out.{j}', f'{ours}/outputs_{j}', 'conv', CONV_DENSE)
    yield from weight_norm(f'out.{network.output_blocks + 1}.conv', f'{ours}/logits', CONV_DENSE)


def _gated(theirs: str, ours: str, layer: str, layout: Any) -> Iterator[Entry]:
    for number, name in ((1, 'first'), (2, 'second')):
        yield from weight_norm(f'{theirs}.conv{number}.{layer}', f'{ours}/{name}', layout)


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the arguments of the peer's training."""
    keys = Keys(found)
    keys.drop('batch', 'epoch', 'lr', 'dropout', 'amp', 'sched', 'ckpt', 'path')
    level = keys.take('hier', 'top')
    if level not in LEVELS:
        raise ConfigError(f'the key hier={level!r} of its configuration is unknown')
    width, inner = keys.take('channel', 256), keys.take('n_res_channel', 256)
    outputs, context = keys.take('n_out_res_block', 0), keys.take('n_cond_res_block', 3)
    expected = {
        'name': 'pixelsnail',
        'width': width,
        'inner': 0 if inner == width else inner,
        'kernel_size': 5,
        'blocks': 4,
        'residual_blocks': keys.take('n_res_block', 4),
        'attention': level == 'top',
        'output_blocks': outputs if level == 'top' else 0,
        'raster': False,
    }
    expected |= {'heads': 8} if level == 'top' else {'context_blocks': context}
    keys.done()
    return {f'model.{LEVELS[level]}.{name}': value for name, value in expected.items()}


RECORD = Record(
    'rosinality/vq-vae-2-pytorch (PixelSNAIL)',
    tables,
    translate,
    ('args',),
    {'model.network': PixelSNAIL, 'model.lower': PixelSNAIL},
)
