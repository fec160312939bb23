"""Parity with the UNet2DModel of huggingface/diffusers, in the layout of google/ddpm-cifar10-32.

python -m benchmarks.parity.diffusers_ddpm --source=FOLDER [--full]
"""

import sys

import numpy as np
import torch

from benchmarks.parity import compare
from configs import ddpm
from genlab import published
from genlab.diffusion.model import make_model
from genlab.published import mapping

CIFAR10 = dict(
    sample_size=32,
    in_channels=3,
    out_channels=3,
    block_out_channels=(128, 256, 256, 256),
    layers_per_block=2,
    down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'),
    attention_head_dim=None,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
    norm_eps=1e-6,
    norm_num_groups=32,
)
TINY = dict(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    block_out_channels=(4, 8),
    layers_per_block=1,
    down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
    up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    norm_num_groups=2,
)


def main() -> None:
    """Compares the network."""
    options = compare.arguments(__doc__ or '', 'the folder that holds the package diffusers')
    sys.path.append(str(options.source))
    from diffusers import UNet2DModel

    settings = CIFAR10 if options.full else CIFAR10 | TINY
    config = ddpm.get_config('cifar10')
    config.data.update(source='digits', name='', resolution=settings['sample_size'], channels=settings['in_channels'])
    if not options.full:
        with config.unlocked():
            config.model.network.update(width=4, multipliers=(1, 2), blocks=1, attention=(4,), groups=2)
    peer = compare.randomize(UNet2DModel(**settings))
    record = published.record('diffusers_ddpm')
    mapping.check(record.complete(config), record.translate(dict(peer.config)), 'UNet2DModel')
    tensors = compare.tensors_of(peer)
    variables = compare.converted(config, 'diffusers_ddpm', 'newer', tensors)['denoiser']
    shape = config.data.resolution, config.data.resolution, config.data.channels
    network, times = make_model(config, shape).network, np.array([7.0, 903.0], np.float32)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    output = compare.compare(
        'DDPM',
        lambda x: peer(x, torch.from_numpy(times)).sample,
        lambda x: network.apply(variables, x, times, False),
        x,
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'diffusers_ddpm-newer.npz', tensors, {'x': x, 'level': times}, output)
    print(compare.versions(), f'diffusers {__import__("diffusers").__version__}', compare.commit(options.source))


if __name__ == '__main__':
    main()
