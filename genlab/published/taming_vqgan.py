"""CompVis/taming-transformers: VQGAN f16, `last.ckpt` of its training, with or without the discriminator of the loss.

Encoder and decoder are as in the record `kl_f8`, with attention at the smallest side. The discriminator is
pix2pix's. The configuration is a separate YAML file.
"""

from collections.abc import Mapping
from typing import Any

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


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the YAML file of a VQModel. A loss of another class has no discriminator that could be read."""
    params = kl_f8.model(found, 'taming.models.vqgan.VQModel')
    params.drop('sane_index_shape')
    params.only(remap=None)
    latent_size = params.take('embed_dim')
    expected, attended = kl_f8.networks(params, latent_size, double=False)
    expected |= {
        'model.networks.attention': attended,
        'model.quantizer.name': 'codebook',
        'model.quantizer.entries': params.take('n_embed'),
        'model.quantizer.latent_size': latent_size,
    }
    loss = params.inner('lossconfig')
    params.done()
    if loss.take('target') == 'taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator':
        judge = loss.inner('params')
        judge.drop('disc_start', 'disc_weight', 'disc_factor', 'disc_loss', 'disc_conditional')
        judge.drop('codebook_weight', 'pixelloss_weight', 'perceptual_weight')
        judge.only(use_actnorm=False, disc_in_channels=expected['data.channels'])
        expected |= {
            'model.discriminator.width': judge.take('disc_ndf', 64),
            'model.discriminator.layers': judge.take('disc_num_layers', 3),
        }
        judge.done()
    return expected


RECORD = Record('CompVis/taming-transformers (VQGAN)', tables, translate, modules={'model.quantizer': Quantizer})
