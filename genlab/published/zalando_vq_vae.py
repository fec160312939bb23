"""zalandoresearch/pytorch-vq-vae: the state dict of the notebook's model, without a configuration.

Its images lie in [-1/2, 1/2], ours in [-1, 1]: the first and the last layer take the factor. Its residual blocks have
no biases, and an in-place ReLU makes them add to the ReLU of their input: the variant `rectified` of configs/vq_vae.py.
"""

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from genlab.networks.autoencoders.residual import ResidualEncoder
from genlab.networks.layers.quantizer import Quantizer
from genlab.published.mapping import CONV, CONV_TRANSPOSE, SAME, Entry, Layout, Record, Table, affine, codebook

RANGE = 0.5  # largest value of its images


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the table of the whole model."""
    return {'vqvae': Table((*_entries(config),), constants=codebook('quantizer', config.model.quantizer.decay))}


def _entries(config: ConfigDict) -> Iterator[Entry]:
    networks = config.model.networks
    halvings, encoder, decoder = networks.halvings, 'encoder/params', 'decoder/params'
    yield Entry('_encoder._conv_1.weight', f'{encoder}/down_0/kernel', scaled(CONV, RANGE))
    yield Entry('_encoder._conv_1.bias', f'{encoder}/down_0/bias', SAME)
    for i in range(1, halvings):
        yield from affine(f'_encoder._conv_{i + 1}', f'{encoder}/down_{i}', CONV)
    yield from affine(f'_encoder._conv_{halvings + 1}', f'{encoder}/input', CONV)
    yield from affine('_pre_vq_conv', f'{encoder}/codes', CONV)
    yield from affine('_decoder._conv_1', f'{decoder}/input', CONV)
    for i in reversed(range(1, halvings)):
        yield from affine(f'_decoder._conv_trans_{halvings - i}', f'{decoder}/up_{i}', CONV_TRANSPOSE)
    last = f'_decoder._conv_trans_{halvings}'
    yield Entry(f'{last}.weight', f'{decoder}/up_0/kernel', scaled(CONV_TRANSPOSE, 1 / RANGE))
    yield Entry(f'{last}.bias', f'{decoder}/up_0/bias', scaled(SAME, 1 / RANGE))
    for side, ours in (('_encoder', encoder), ('_decoder', decoder)):
        for i in range(networks.blocks):
            for number, name in ((1, 'inner'), (3, 'outer')):
                theirs = f'{side}._residual_stack._layers.{i}._block.{number}'
                yield from affine(theirs, f'{ours}/residuals/{name}_{i}', CONV, bias=False)
    if config.model.quantizer.decay:
        for name, field in (('_embedding.weight', 'entries'), ('_ema_w', 'sum'), ('_ema_cluster_size', 'count')):
            yield Entry(f'_vq_vae.{name}', f'quantizer/codebook/{field}', SAME)
    else:
        yield Entry('_vq_vae._embedding.weight', 'quantizer/params/entries', SAME)


def scaled(layout: Layout, factor: float) -> Layout:
    """Returns a layout whose result is multiplied by a power of two."""
    return Layout(
        lambda array, shape: layout.read(array, shape) * factor,
        lambda array, shape: layout.write(array / factor, shape),
    )


RECORD = Record(
    'zalandoresearch/pytorch-vq-vae',
    tables,
    modules={'model.networks': ResidualEncoder, 'model.quantizer': Quantizer},
)
