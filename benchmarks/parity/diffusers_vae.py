"""Parity with the AutoencoderKL of huggingface/diffusers.

python -m benchmarks.parity.diffusers_vae --source=FOLDER [--full] [--certify]
"""

import sys

import numpy as np
import torch

from benchmarks.parity import compare
from configs import vae
from genlab import published
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.published import mapping

KL_F8 = dict(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=('DownEncoderBlock2D',) * 4,
    up_block_types=('UpDecoderBlock2D',) * 4,
    layers_per_block=2,
    latent_channels=4,
)


def main() -> None:
    """Compares encoder (mean) and decoder."""
    options = compare.arguments(__doc__ or '', 'the folder that holds the package diffusers')
    sys.path.append(str(options.source))
    import diffusers

    config, record = vae.get_config('kl_f8'), published.record('diffusers_vae')
    with torch.device('meta'):  # only its configuration is needed
        configuration = {**diffusers.AutoencoderKL(**KL_F8).config, '_class_name': 'AutoencoderKL'}
    mapping.check(record.complete(config), record.translate(configuration), 'the configuration of KL-f8')
    width, multipliers, blocks, side = (128, (1, 2, 4, 4), 2, 64) if options.full else (2, (1, 2), 1, 8)
    channels, levels = 3 if options.full else 1, len(multipliers)
    title = f'width {width}, images of {side}x{side}'
    certificate = compare.Certificate('diffusers_vae', options, title, f'diffusers {diffusers.__version__}')
    config.data.update(source='digits', dir='', resolution=side, channels=channels)
    config.model.networks.update(width=width, multipliers=multipliers, blocks=blocks)
    settings = dict(in_channels=channels, out_channels=channels, layers_per_block=blocks)
    settings |= dict(
        block_out_channels=tuple(width * multiplier for multiplier in multipliers),
        down_block_types=('DownEncoderBlock2D',) * levels,
        up_block_types=('UpDecoderBlock2D',) * levels,
        norm_num_groups=32 if options.full else 1,  # 32 do not divide a tiny width
    )
    peer = compare.randomize(diffusers.AutoencoderKL(**KL_F8 | settings))
    tensors = compare.tensors_of(peer)
    variables = compare.converted(certificate, config, 'newer', tensors)
    shared = dict(multipliers=multipliers, blocks=blocks)
    encode, decode = (
        SpatialEncoder(width, 4, **shared),
        SpatialDecoder(width, 4, (side, side, channels), scale=None, **shared),
    )
    grid = side // 2 ** (levels - 1)
    draw, batch = np.random.default_rng(0), 2 if options.full else 1
    x, z = (compare.drawn(draw, options, batch, *shape) for shape in ((side, side, channels), (grid, grid, 4)))
    mean = compare.compare(
        certificate,
        'AutoencoderKL, mean of the encoder',
        lambda x: peer.encode(x).latent_dist.mean,
        lambda x: encode.apply(variables['encoder'], x)[0].reshape(batch, grid, grid, 4),
        x,
    )
    output = compare.compare(
        certificate,
        'AutoencoderKL, decoder',
        lambda z: peer.decode(z).sample,
        lambda z: decode.apply(variables['decoder'], z.reshape(batch, -1)),
        z,
    )
    if options.fixture:
        inputs = {'x': x, 'z': z, 'mean': mean}
        compare.write_fixture(options.fixture / 'diffusers_vae-newer.npz', tensors, inputs, output)
    certificate.write()


if __name__ == '__main__':
    main()
