"""Times a DCGAN training step at 64x64x3, width 64 and batch 64, in float32, against the same networks in PyTorch.

A step is a discriminator turn followed by a generator turn, with the non-saturating loss on logits and Adam(2e-4, b1
0.5). Each contender runs in processes of its own. The result is for the fastest mode of PyTorch.

    python -m benchmarks.dcgan --rounds=15
    python -m benchmarks.dcgan --batch=128 --device=gpu
"""

import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks import contest

LATENT, RATE, MOMENTUM = 100, 2e-4, 0.5


def config_of(batch: int):
    """Returns the config of configs/dcgan.py:paper64 without what the PyTorch step lacks."""
    from genlab.main import read

    config = read(str(pathlib.Path(__file__).parents[1] / 'configs/dcgan.py') + ':paper64')
    config.data.batch_size = batch
    config.average, config.data.flip = {}, False
    return config


def torch_networks() -> tuple[Any, Any]:
    """Returns the generator and the discriminator of PyTorch's DCGAN example."""
    from torch import nn

    norm = nn.BatchNorm2d

    def block(layer, n, m, activation):
        return layer(n, m, 4, 2, 1, bias=False), norm(m), activation()

    leaky = lambda: nn.LeakyReLU(0.2, inplace=True)
    relu = lambda: nn.ReLU(True)
    up, down = nn.ConvTranspose2d, nn.Conv2d
    generator = nn.Sequential(
        up(LATENT, 512, 4, 1, 0, bias=False),
        norm(512),
        relu(),
        *block(up, 512, 256, relu),
        *block(up, 256, 128, relu),
        *block(up, 128, 64, relu),
        up(64, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        down(3, 64, 4, 2, 1, bias=False),
        leaky(),
        *block(down, 64, 128, leaky),
        *block(down, 128, 256, leaky),
        *block(down, 256, 512, leaky),
        down(512, 1, 4, 1, 0, bias=False),
    )
    return generator, discriminator


def torch_step(batch: int, channels_last: bool, compiled: bool, frozen: bool) -> Callable[[], None]:
    """Builds the step in PyTorch, in the usual order; the generator turn uses the same fakes as the discriminator turn.

    Args:
      batch: images per step.
      channels_last: whether to use that memory format.
      compiled: whether to use torch.compile.
      frozen: whether to skip the gradients of the discriminator's parameters in the generator turn. The usual code
        computes them.
    """
    import torch
    from torch.nn.functional import softplus

    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator, discriminator = (network.to(memory_format=layout) for network in torch_networks())
    adam = [
        contest.adam(network.parameters(), RATE, (MOMENTUM, 0.999), fused=False)
        for network in (generator, discriminator)
    ]
    images = torch.tanh(torch.randn(batch, 3, 64, 64)).contiguous(memory_format=layout)
    if compiled:
        generator, discriminator = (torch.compile(n, dynamic=False) for n in (generator, discriminator))

    def run():
        fake = generator(torch.randn(batch, LATENT, 1, 1, device=images.device))
        adam[1].zero_grad()
        softplus(-discriminator(images)).mean().backward()
        softplus(discriminator(fake.detach())).mean().backward()
        adam[1].step()
        discriminator.requires_grad_(not frozen)
        adam[0].zero_grad()
        softplus(-discriminator(fake)).mean().backward()
        adam[0].step()
        discriminator.requires_grad_(True)

    return run


def makers(batch: int, frozen: bool, device: str) -> dict[str, Callable]:
    """Returns name -> function that builds the contender."""
    theirs = contest.modes(lambda last, compiled: torch_step(batch, last, compiled, frozen), device)
    return {'genlab': lambda: contest.loop_steps(config_of(batch)), **theirs}


def main() -> None:
    parser = contest.parser(__doc__, rounds=15)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument(
        '--frozen', action='store_true', help='PyTorch without gradients of the discriminator in the generator turn'
    )
    options = contest.parse(parser)
    made = makers(options.batch, options.frozen, options.device)
    contest.compete('benchmarks.dcgan', made, options, options.batch)


if __name__ == '__main__':
    main()
