"""Parity with the VQGAN f16 of CompVis/taming-transformers, with its discriminator.

python -m benchmarks.parity.taming_vqgan --source=FOLDER [--full] [--certify]
"""

import sys

import numpy as np
import torch
from torch import nn

from benchmarks.parity import compare
from configs import vqgan as configs
from genlab import published
from genlab.models import vqgan
from genlab.published import files, mapping


def main() -> None:
    """Compares the grid before quantisation, its entries, the decoder and the discriminator."""
    options = compare.arguments(__doc__ or '', 'a checkout of CompVis/taming-transformers')
    sys.path.append(str(options.source))
    from taming.modules.diffusionmodules import model
    from taming.modules.discriminator.model import NLayerDiscriminator

    config, record = configs.get_config('f16'), published.record('taming_vqgan')
    configuration = files.configuration(options.source / 'configs/imagenet_vqgan.yaml')
    mapping.check(record.complete(config), record.translate(configuration), 'the configuration of VQGAN')
    config.data.update(source='digits', dir='', resolution=64, channels=1)
    config.model.perceptual.name = 'none'
    if not options.full:
        config.data.resolution = 8
        config.model.networks.update(width=2, multipliers=(1, 2), blocks=1)
        config.model.quantizer.update(entries=8, latent_size=4)
        config.model.discriminator.update(width=2, layers=1)
        # 32 groups do not divide a tiny width; ours are then as many as leave four channels each
        model.Normalize = lambda size: nn.GroupNorm(max(1, size // 4), size, eps=1e-6)
    networks, quantizer, judge = config.model.networks, config.model.quantizer, config.model.discriminator
    side, channels, size = config.data.resolution, config.data.channels, quantizer.latent_size
    certificate = compare.Certificate('taming_vqgan', options, f'width {networks.width}, images of {side}x{side}')
    smallest = side // 2 ** (len(networks.multipliers) - 1)
    settings = dict(ch=networks.width, out_ch=channels, ch_mult=networks.multipliers, num_res_blocks=networks.blocks)
    settings |= dict(attn_resolutions=[smallest], in_channels=channels, resolution=side, z_channels=size)
    peer = nn.Module()
    peer.encoder = model.Encoder(**settings, double_z=False, dropout=0.0)
    peer.decoder = model.Decoder(**settings, dropout=0.0)
    peer.quant_conv, peer.post_quant_conv = nn.Conv2d(size, size, 1), nn.Conv2d(size, size, 1)
    peer.quantize = nn.Module()
    peer.quantize.embedding = nn.Embedding(quantizer.entries, size)
    peer.loss = nn.Module()
    peer.loss.discriminator = NLayerDiscriminator(channels, judge.width, judge.layers)
    compare.randomize(peer)
    tensors = compare.tensors_of(peer)
    variables = compare.converted(certificate, config, 'vqgan', tensors)
    ours = vqgan.from_config(config, None, None)
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, side, side, channels)).astype(np.float32)
    z = compare.compare(
        certificate,
        'VQGAN, grid before quantisation',
        lambda x: peer.quant_conv(peer.encoder(x)),
        lambda x: ours.vqvae.encoder.apply(variables['encoder'], x),
        x,
    )
    table = tensors['quantize.embedding.weight']
    nearest = torch.cdist(torch.from_numpy(z.reshape(-1, size)), torch.from_numpy(table)).argmin(1).numpy()
    found = ours.vqvae.quantizer.apply(variables['quantizer'], z, False)
    assert np.array_equal(nearest, np.asarray(found.indices).ravel()), 'other entries'
    entries = table[nearest].reshape(z.shape)
    output = compare.compare(
        certificate,
        'VQGAN, decoder',
        lambda z: peer.decoder(peer.post_quant_conv(z)),
        lambda z: ours.vqvae.decoder.apply(variables['decoder'], z),
        entries,
    )
    logits = compare.compare(
        certificate,
        'VQGAN, discriminator',
        peer.loss.discriminator,
        lambda x: ours.discriminator.apply(variables['discriminator'], x, False)[..., None],
        x,
    )
    if options.fixture:
        inputs = {'x': x, 'z': z, 'entries': entries, 'logits': logits[..., 0]}
        compare.write_fixture(options.fixture / 'taming_vqgan-vqgan.npz', tensors, inputs, output)
    certificate.write()


if __name__ == '__main__':
    main()
