"""Parity with the autoencoder KL-f8 of CompVis/latent-diffusion.

python -m benchmarks.parity.kl_f8 --source=FOLDER [--full] [--certify]
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn

from benchmarks.parity import compare
from configs import vae
from genlab import published
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.published import files, mapping


def compare_networks(
    certificate: compare.Certificate,
    options: argparse.Namespace,
    title: str,
    config: ConfigDict,
    variables: Mapping[str, Any],
    encode: Callable[[torch.Tensor], torch.Tensor],
    decode: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Compares the mean of the encoder, and the decoder, of a peer with this layout.

    Args:
      certificate: takes the figures.
      options: of the command.
      title: name of the peer's network.
      config: config of our networks.
      variables: network -> collections.
      encode: maps images of the peer to means.
      decode: maps codes of the peer to images.

    Returns:
      The inputs by name, with the mean, and the output of the decoder.
    """
    sizes, side, channels = config.model.networks, config.data.resolution, config.data.channels
    shared = dict(multipliers=sizes.multipliers, blocks=sizes.blocks)
    encoder = SpatialEncoder(sizes.width, 4, **shared)
    decoder = SpatialDecoder(sizes.width, 4, (side, side, channels), scale=None, **shared)
    grid, batch = side // 2 ** (len(sizes.multipliers) - 1), 2 if options.full else 1
    draw = np.random.default_rng(0)
    x, z = (compare.drawn(draw, options, batch, *shape) for shape in ((side, side, channels), (grid, grid, 4)))
    mean = compare.compare(
        certificate,
        f'{title}, mean of the encoder',
        encode,
        lambda x: encoder.apply(variables['encoder'], x)[0].reshape(batch, grid, grid, 4),
        x,
    )
    output = compare.compare(
        certificate,
        f'{title}, decoder',
        decode,
        lambda z: decoder.apply(variables['decoder'], z.reshape(batch, -1)),
        z,
    )
    return {'x': x, 'z': z, 'mean': mean}, output


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
    inputs, output = compare_networks(
        certificate,
        options,
        'KL-f8',
        config,
        variables,
        lambda x: peer.quant_conv(peer.encoder(x))[:, :4],
        lambda z: peer.decoder(peer.post_quant_conv(z)),
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'kl_f8-autoencoder.npz', tensors, inputs, output)
    certificate.write()


if __name__ == '__main__':
    main()
