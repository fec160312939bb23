"""Times training steps of pix2pix and CycleGAN in float32, against the same networks in PyTorch.

`--network=pix2pix` is the U-Net of the paper with the patch discriminator, 256x256; `--network=cyclegan` has two
residual networks of nine blocks, two patch discriminators and the pool, 128x128. Both have batches of one, without
crops and flips. Each contender runs in processes of its own. The result is for the fastest mode of PyTorch.

    python -m benchmarks.translation --network=pix2pix --rounds=8
    python -m benchmarks.translation --network=cyclegan --rounds=8
    python -m benchmarks.translation --network=pix2pix --batch=16 --device=gpu
"""

import pathlib
from collections.abc import Callable

from benchmarks import contest

VARIANT = {'pix2pix': 'facades', 'cyclegan': 'horse2zebra'}
SIDE = {'pix2pix': 256, 'cyclegan': 128}
CHANNELS = 3


def config_of(network: str, batch: int, side: int, width: int):
    """Returns the config of a network, on embedded data of the same shapes."""
    from genlab.main import read

    config = read(f'{pathlib.Path(__file__).parents[1]}/configs/{network}.py:{VARIANT[network]}')
    config.data.update(source='scenes', name='', fields=('style',), resolution=side, batch_size=batch)
    config.data.update(unpaired='', jitter=0, flip=False)
    config.model.input = 'style'
    config.model.generator.width = config.model.discriminator.width = width
    if network == 'pix2pix':
        config.model.generator.depth = side.bit_length() - 1
    return config


def torch_steps(network: str, batch: int, side: int, width: int, last: bool, compiled: bool) -> Callable[[], None]:
    """Builds the same in PyTorch. Both turns use the same fakes, as usual in fast code."""
    import torch

    from benchmarks import torch_translation as networks

    layout = torch.channels_last if last else torch.contiguous_format
    images = [torch.tanh(torch.randn(batch, CHANNELS, side, side)).contiguous(memory_format=layout) for _ in range(2)]
    fast = (lambda module: torch.compile(module, dynamic=False)) if compiled else (lambda module: module)
    make = networks.pix2pix_step if network == 'pix2pix' else networks.cyclegan_step
    return make(*images, lambda module: module.to(memory_format=layout), fast, width)


def main() -> None:
    parser = contest.parser(__doc__, rounds=8)
    parser.add_argument('--network', choices=[*VARIANT], default='pix2pix')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument(
        '--side', type=int, default=0, help='pixels, a power of two; 0: 256 of pix2pix, 128 of cyclegan'
    )
    parser.add_argument('--width', type=int, default=64, help='channels of the first layers')
    options = contest.parse(parser)
    sizes = options.network, options.batch, options.side or SIDE[options.network], options.width
    theirs = contest.modes(lambda last, compiled: torch_steps(*sizes, last, compiled), options.device)
    made = {'genlab': lambda: contest.loop_steps(config_of(*sizes)), **theirs}
    contest.compete('benchmarks.translation', made, options, options.batch)


if __name__ == '__main__':
    main()
