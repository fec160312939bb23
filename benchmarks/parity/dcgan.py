"""Parity with the DCGAN of pytorch/examples: the same architecture, written again here.

python -m benchmarks.parity.dcgan [--full]
"""

import numpy as np
from torch import nn

from benchmarks.parity import compare
from configs import dcgan
from genlab.models import generators


def generator(latents: int, width: int, channels: int, levels: int) -> nn.Module:
    """Returns the peer's generator for a side of 4 * 2^levels."""
    layers: list[nn.Module] = []
    sizes = [latents, *(width * 2**i for i in reversed(range(levels))), channels]
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        stride, padding = (2, 1) if i else (1, 0)
        layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if i < levels else [nn.Tanh()]
    return _main(layers)


def discriminator(width: int, channels: int, levels: int) -> nn.Module:
    """Returns the peer's discriminator up to its logit."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for i in range(1, levels):
        layers += [nn.Conv2d(width * 2 ** (i - 1), width * 2**i, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2**i)]
        layers.append(nn.LeakyReLU(0.2))
    return _main([*layers, nn.Conv2d(width * 2 ** (levels - 1), 1, 4, 1, 0, bias=False)])


def _main(layers: list[nn.Module]) -> nn.Module:
    module = nn.Module()
    module.main = nn.Sequential(*layers)
    return module


def main() -> None:
    """Compares both networks."""
    options = compare.arguments(__doc__ or '')
    config = dcgan.get_config('paper64' if options.full else '')
    if not options.full:
        config.data.update(resolution=16, channels=1)
        config.model.latent_size, config.model.networks.width = 8, 4
    side, channels = config.data.resolution, config.data.channels
    width, latents, levels = config.model.networks.width, config.model.latent_size, side.bit_length() - 3
    nets, draw = generators.networks(config, None), np.random.default_rng(0)
    z = draw.standard_normal((3, latents)).astype(np.float32)
    made = compare.randomize(generator(latents, width, channels, levels))
    tensors = compare.tensors_of(made)
    variables = compare.converted(config, 'pytorch_dcgan', 'generator', tensors)['generator']
    output = compare.compare(
        'DCGAN, generator',
        lambda z: made.main(z[:, :, None, None]),
        lambda z: nets.generator.apply(variables, z, False),
        z,
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'pytorch_dcgan-generator.npz', tensors, {'z': z}, output)
    x = draw.standard_normal((3, side, side, channels)).astype(np.float32)
    judge = compare.randomize(discriminator(width, channels, levels))
    tensors = compare.tensors_of(judge)
    fixed = compare.converted(config, 'pytorch_dcgan', 'discriminator', tensors)['discriminator']
    output = compare.compare(
        'DCGAN, discriminator',
        lambda x: judge.main(x)[:, 0, 0, 0],
        lambda x: nets.discriminator.apply(fixed, x, False),
        x,
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'pytorch_dcgan-discriminator.npz', tensors, {'x': x}, output)
    print(compare.versions())


if __name__ == '__main__':
    main()
