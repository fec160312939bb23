"""CompVis/taming-transformers: VQGAN f16, `last.ckpt` of its training, with or without the discriminator of the loss.

Encoder and decoder are as in the record `kl_f8`, with attention at the smallest side. The discriminator is
pix2pix's. The configuration is a YAML file beside it, which is not read: sizes are checked by the shapes.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from genlab.networks.layers.quantizer import Quantizer
from genlab.published import kl_f8
from genlab.published.mapping import SAME, Entry, Record, Table, codebook
from genlab.published.pix2pix import COUNTER, patches

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
    layers = config.model.discriminator.layers
    discriminator = (*patches('loss.discriminator.main', 'discriminator', layers, 'batch'),)
    return {
        'vqgan': Table((*entries, *discriminator), (COUNTER,), ('loss.perceptual_loss.',), constants, SECTIONS),
        'autoencoder': Table(entries, (), ('loss.',), constants, SECTIONS),
    }


RECORD = Record('CompVis/taming-transformers (VQGAN)', tables, modules={'model.quantizer': Quantizer})
