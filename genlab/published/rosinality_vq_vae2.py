"""rosinality/vq-vae-2-pytorch: `vqvae_*.pt` of its first stage, a state dict without a configuration.

The layers of an encoder or decoder are numbered, activations included. An entry of a codebook is a column there.
"""

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from genlab.networks.autoencoders.residual import ResidualEncoder
from genlab.networks.layers.quantizer import Quantizer
from genlab.published.mapping import CONV, CONV_TRANSPOSE, DENSE, SAME, Entry, Record, Table, affine, codebook


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the table of all networks."""
    decay = config.model.quantizer.decay
    constants = {
        path: value for level in ('top', 'bottom') for path, value in codebook(f'{level}_quantizer', decay).items()
    }
    return {'vqvae': Table((*_entries(config),), constants=constants, sections=(('model',), ()))}


def _entries(config: ConfigDict) -> Iterator[Entry]:
    networks = config.model.networks
    blocks, halvings = networks.blocks, networks.halvings
    yield from _encoder('enc_b', 'features/params', halvings, blocks)
    yield from _encoder('enc_t', 'top_encoder/params', 1, blocks)
    yield from affine('quantize_conv_t', 'top_encoder/params/codes', CONV)
    yield from _decoder('dec_t', 'bottom_encoder/params/top', 1, blocks)
    yield from affine('quantize_conv_b', 'bottom_encoder/params/codes', CONV)
    yield from affine('upsample_t', 'decoder/params/up', CONV_TRANSPOSE)
    yield from _decoder('dec', 'decoder/params/images', halvings, blocks)
    for letter, level in (('t', 'top'), ('b', 'bottom')):
        for name, field, layout in (
            ('embed', 'entries', DENSE),
            ('embed_avg', 'sum', DENSE),
            ('cluster_size', 'count', SAME),
        ):
            yield Entry(f'quantize_{letter}.{name}', f'{level}_quantizer/codebook/{field}', layout)


def _encoder(theirs: str, ours: str, halvings: int, blocks: int) -> Iterator[Entry]:
    for i in range(halvings):
        yield from affine(f'{theirs}.blocks.{2 * i}', f'{ours}/down_{i}', CONV)
    yield from affine(f'{theirs}.blocks.{2 * halvings}', f'{ours}/input', CONV)
    yield from _residuals(theirs, ours, 2 * halvings + 1, blocks)


def _decoder(theirs: str, ours: str, halvings: int, blocks: int) -> Iterator[Entry]:
    yield from affine(f'{theirs}.blocks.0', f'{ours}/input', CONV)
    yield from _residuals(theirs, ours, 1, blocks)
    for i in range(halvings):
        yield from affine(f'{theirs}.blocks.{blocks + 2 + 2 * i}', f'{ours}/up_{halvings - 1 - i}', CONV_TRANSPOSE)


def _residuals(theirs: str, ours: str, first: int, blocks: int) -> Iterator[Entry]:
    for i in range(blocks):
        yield from affine(f'{theirs}.blocks.{first + i}.conv.1', f'{ours}/residuals/inner_{i}', CONV)
        yield from affine(f'{theirs}.blocks.{first + i}.conv.3', f'{ours}/residuals/outer_{i}', CONV)


RECORD = Record(
    'rosinality/vq-vae-2-pytorch (VQ-VAE-2)',
    tables,
    modules={'model.networks': ResidualEncoder, 'model.quantizer': Quantizer},
)
