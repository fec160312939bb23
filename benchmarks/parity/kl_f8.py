"""Parity with the autoencoder KL-f8 of CompVis/latent-diffusion.

python -m benchmarks.parity.kl_f8 --source=FOLDER [--full] [--certify]
"""

import sys

import numpy as np
from torch import nn

from benchmarks.parity import compare
from configs import vae
from genlab import published
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.published import files, mapping


def main() -> None:
    """Compares encoder (mean) and decoder."""
    options = compare.arguments(__doc__ or '', 'a checkout of CompVis/latent-diffusion')
    sys.path.append(str(options.source))
    from ldm.modules.diffusionmodules import model

    width, multipliers, blocks, side = (128, (1, 2, 4, 4), 2, 64) if options.full else (4, (1, 2), 1, 8)
    channels = 3 if options.full else 1
    if not options.full:  # 32 groups do not divide a tiny width; ours are then as many as leave four channels each
        model.Normalize = lambda size: nn.GroupNorm(max(1, size // 4), size, eps=1e-6)
    certificate = compare.Certificate('kl_f8', options, f'width {width}, images of {side}x{side}')
    config, record = vae.get_config('kl_f8'), published.record('kl_f8')
    configuration = files.configuration(options.source / 'models/first_stage_models/kl-f8/config.yaml')
    mapping.check(record.complete(config), record.translate(configuration), 'the configuration of KL-f8')
    config.data.update(source='digits', dir='', resolution=side, channels=channels)
    config.model.networks.update(width=width, multipliers=multipliers, blocks=blocks)
    settings = dict(ch=width, out_ch=channels, ch_mult=multipliers, num_res_blocks=blocks, attn_resolutions=[])
    settings |= dict(in_channels=channels, resolution=side, z_channels=4, double_z=True, dropout=0.0)
    peer = nn.Module()
    peer.encoder, peer.decoder = model.Encoder(**settings), model.Decoder(**settings)
    peer.quant_conv, peer.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)
    compare.randomize(peer)
    tensors = compare.tensors_of(peer)
    variables = compare.converted(certificate, config, 'autoencoder', tensors)
    shared = dict(multipliers=multipliers, blocks=blocks)
    encode, decode = (
        SpatialEncoder(width, 4, **shared),
        SpatialDecoder(width, 4, (side, side, channels), scale=None, **shared),
    )
    grid = side // 2 ** (len(multipliers) - 1)
    draw = np.random.default_rng(0)
    batch = 2 if options.full else 1
    x, z = (compare.drawn(draw, options, batch, *shape) for shape in ((side, side, channels), (grid, grid, 4)))
    mean = compare.compare(
        certificate,
        'KL-f8, mean of the encoder',
        lambda x: peer.quant_conv(peer.encoder(x))[:, :4],
        lambda x: encode.apply(variables['encoder'], x)[0].reshape(batch, grid, grid, 4),
        x,
    )
    output = compare.compare(
        certificate,
        'KL-f8, decoder',
        lambda z: peer.decoder(peer.post_quant_conv(z)),
        lambda z: decode.apply(variables['decoder'], z.reshape(batch, -1)),
        z,
    )
    if options.fixture:
        inputs = {'x': x, 'z': z, 'mean': mean}
        compare.write_fixture(options.fixture / 'kl_f8-autoencoder.npz', tensors, inputs, output)
    certificate.write()


if __name__ == '__main__':
    main()
