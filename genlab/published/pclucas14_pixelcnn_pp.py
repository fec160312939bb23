"""pclucas14/pixel-cnn-pp: PixelCNN++ in PyTorch, `pcnn_lr*_*.pth`, state dicts without a configuration.

Its transposed convolutions normalise the weights of each input; ours and the paper's code normalise the weights of each
output. They are read as the kernel that results. Its outputs are ordered by channel, ours by kind.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from ml_collections import ConfigDict

from genlab.networks.autoregressive.pixelcnn_pp import PixelCNNPP
from genlab.published.mapping import (
    CONV,
    CONV_TRANSPOSE,
    DENSE,
    GAIN_DENSE,
    SAME,
    Entry,
    Layout,
    Record,
    Rewrite,
    Table,
    weight_norm,
)

STREAMS = {'u_stream': 'above', 'ul_stream': 'left'}


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the table of the network."""
    return {'pixelcnn_pp': Table((*_entries(config),), rewrite=Rewrite(_per_output, _per_input))}


def _entries(config: ConfigDict) -> Iterator[Entry]:
    network, ours = config.model.network, 'prior/params'
    levels, blocks = network.levels, network.blocks
    for theirs, name in (('u_init', 'first_above'), ('ul_init.0', 'first_row'), ('ul_init.1', 'first_left')):
        yield from weight_norm(f'{theirs}.conv', f'{ours}/{name}', CONV)
    for theirs, name in STREAMS.items():
        stream, left = f'{ours}/{name}', name == 'left'
        for level in range(levels):
            for j in range(blocks):
                yield from _block(f'up_layers.{level}.{theirs}.{j}', f'{stream}/encoder_{level}_{j}', left)
            for j in range(blocks + (level < levels - 1)):
                yield from _block(
                    f'down_layers.{levels - 1 - level}.{theirs}.{j}', f'{stream}/decoder_{level}_{j}', True
                )
        for i in range(levels - 1):
            yield from weight_norm(f'downsize_{theirs}.{i}.conv', f'{stream}/halve_{i}', CONV)
            # The peer's gain is rewritten to one per output; see `_per_output`.
            deconv, double = f'upsize_{theirs}.{i}.deconv', f'{stream}/double_{levels - 2 - i}'
            yield from weight_norm(deconv, double, CONV_TRANSPOSE)
    channels = config.data.channels
    output = f'{ours}/output'
    yield Entry('nin_out.lin_a.weight_v', f'{output}/kernel', _by_kind(DENSE, channels))
    yield Entry('nin_out.lin_a.weight_g', f'{output}/gain', _by_kind(GAIN_DENSE, channels))
    yield Entry('nin_out.lin_a.bias', f'{output}/bias', _by_kind(SAME, channels))


def _block(theirs: str, ours: str, auxiliary: bool) -> Iterator[Entry]:
    for name, field in (('conv_input', 'first'), ('conv_out', 'second')):
        yield from weight_norm(f'{theirs}.{name}.conv', f'{ours}/{field}', CONV)
    if auxiliary:
        yield from weight_norm(f'{theirs}.nin_skip.lin_a', f'{ours}/beside', DENSE)


def _by_kind(layout: Layout, channels: int) -> Layout:
    """Returns the layout of the last layer: (weight, then mean, scale, coefficient of each channel) there.

    Ours has (weight, means, scales, coefficients). Each is a run of as many outputs as there are components.
    """
    kinds = 3 if channels > 1 else 2
    order = np.concatenate([[0], 1 + np.arange(channels * kinds).reshape(channels, kinds).T.ravel()])

    def turn(array: np.ndarray, order: np.ndarray) -> np.ndarray:
        return array.reshape(*array.shape[:-1], len(order), -1)[..., order, :].reshape(array.shape)

    return Layout(
        lambda array, shape: turn(layout.read(array, shape), order),
        lambda array, shape: layout.write(turn(array, np.argsort(order)), shape),
    )


def _per_output(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors with a gain per output of each transposed convolution [in, out, h, w]."""
    found = dict(tensors)
    for name, gain in _transposed(tensors):
        kernel = tensors[name]
        if tensors[gain].shape == (len(kernel), 1, 1, 1):  # per input; any other shape is compared with ours later
            found[name] = kernel * (tensors[gain] / np.maximum(_norm(kernel, 0), 1e-12))
            found[gain] = _norm(found[name], 1)
    return found


def _per_input(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors with a gain per input, as in the file."""
    found = dict(tensors)
    for name, gain in _transposed(tensors):
        kernel = tensors[name]
        found[name] = kernel * (tensors[gain].reshape(1, -1, 1, 1) / np.maximum(_norm(kernel, 1), 1e-12))
        found[gain] = _norm(found[name], 0)
    return found


def _transposed(tensors: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Returns the names of direction and gain of the transposed convolutions."""
    names = [name for name in tensors if name.startswith('upsize_') and name.endswith('.weight_v')]
    return [(name, name.removesuffix('_v') + '_g') for name in names]


def _norm(kernel: np.ndarray, axis: int) -> np.ndarray:
    """Returns the norms of a kernel [in, out, h, w] for each place of an axis, with axes of length 1 for the others."""
    others = tuple(i for i in range(kernel.ndim) if i != axis)
    return np.sqrt(np.square(kernel).sum(others, keepdims=True))


RECORD = Record('pclucas14/pixel-cnn-pp', tables, modules={'model.network': PixelCNNPP})
