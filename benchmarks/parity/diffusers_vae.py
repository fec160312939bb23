"""Parity with the AutoencoderKL of huggingface/diffusers.

python -m benchmarks.parity.diffusers_vae --source=FOLDER [--full] [--certify]
"""

import sys

import torch

from benchmarks.parity import compare, kl_f8
from configs import vae
from genlab import published
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
    inputs, output = kl_f8.compare_networks(
        certificate,
        options,
        'AutoencoderKL',
        config,
        variables,
        lambda x: peer.encode(x).latent_dist.mean,
        lambda z: peer.decode(z).sample,
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'diffusers_vae-newer.npz', tensors, inputs, output)
    certificate.write()


if __name__ == '__main__':
    main()
