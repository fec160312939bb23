"""CompVis/taming-transformers: VQGAN f16, `last.ckpt` of its training, with or without the discriminator of the loss.

Encoder and decoder are as in the record `kl_f8`, with attention at the smallest side. The discriminator's layers are
numbered as in pix2pix. The configuration is a YAML file beside it, which is not read: sizes are checked by the shapes.
"""

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from genlab.networks.layers.quantizer import Quantizer
from genlab.published import kl_f8
from genlab.published.mapping import CONV, SAME, Entry, Record, Table, affine, codebook, norm

COUNTER = ('.num_batches_tracked',)
SECTIONS = (('state_dict',), ())


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables of whole files, and of files without a discriminator."""
    networks = config.model.networks
    entries = (
        *kl_f8.encoder(networks, networks.attention),
        *kl_f8.decoder(networks, networks.attention),
        Entry('quantize.embedding.weight', 'quantizer/params/entries', SAME),
    )
    constants = codebook('quantizer', config.model.quantizer.decay)
    discriminator = (*_discriminator(config.model.discriminator.layers),)
    return {
        'vqgan': Table((*entries, *discriminator), COUNTER, ('loss.perceptual_loss.',), constants, SECTIONS),
        'autoencoder': Table(entries, (), ('loss.',), constants, SECTIONS),
    }


def _discriminator(layers: int) -> Iterator[Entry]:
    theirs, ours = 'loss.discriminator.main', 'discriminator'
    yield from affine(f'{theirs}.0', f'{ours}/params/input', CONV)
    for i in range(1, layers + 1):
        yield from affine(f'{theirs}.{3 * i - 1}', f'{ours}/params/convolution_{i}', CONV, bias=False)
        yield from norm(f'{theirs}.{3 * i}', f'{ours}/params/normalization_{i}')
        for name, field in (('running_mean', 'mean'), ('running_var', 'var')):
            yield Entry(f'{theirs}.{3 * i}.{name}', f'{ours}/batch_stats/normalization_{i}/{field}', SAME)
    yield from affine(f'{theirs}.{3 * layers + 2}', f'{ours}/params/output', CONV)


RECORD = Record('CompVis/taming-transformers (VQGAN)', tables, modules={'model.quantizer': Quantizer})
