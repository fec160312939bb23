"""Parity with the DCGAN of pytorch/examples, and with one step of its training.

python -m benchmarks.parity.dcgan --source=FOLDER [--full] [--certify]

The peer has one size, 64x64. The tiny networks have its layers with fewer levels, written again here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn

from benchmarks.parity import compare
from configs import dcgan
from genlab import noise
from genlab.models import generators


def generator(latents: int, width: int, channels: int, levels: int) -> nn.Module:
    """Returns a generator like the peer's for a side of 4 * 2^levels."""
    layers: list[nn.Module] = []
    sizes = [latents, *(width * 2**i for i in reversed(range(levels))), channels]
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        stride, padding = (2, 1) if i else (1, 0)
        layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if i < levels else [nn.Tanh()]
    return _main(layers)


def discriminator(width: int, channels: int, levels: int) -> nn.Module:
    """Returns a discriminator like the peer's."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for i in range(1, levels):
        layers += [nn.Conv2d(width * 2 ** (i - 1), width * 2**i, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2**i)]
        layers.append(nn.LeakyReLU(0.2))
    return _main([*layers, nn.Conv2d(width * 2 ** (levels - 1), 1, 4, 1, 0, bias=False), nn.Sigmoid()])


def _main(layers: list[nn.Module]) -> nn.Module:
    module = nn.Module()
    module.main = nn.Sequential(*layers)
    return module


def compare_step(
    certificate: compare.Certificate,
    config: ConfigDict,
    made: nn.Module,
    judge: nn.Module,
    x: np.ndarray,
) -> None:
    """Compares one step of Adam of both players, on the same images and noise.

    Args:
      certificate: takes the figures.
      config: of the run.
      made: the peer's generator.
      judge: the peer's discriminator, which ends in a sigmoid.
      x: images [B, H, W, C].
    """
    variables = {}
    for kind, module in (('generator', made), ('discriminator', judge)):
        variables |= compare.converted(certificate, config, kind, compare.tensors_of(module), counted=False)
    with compare.float64(), compare.in_float64(config):
        key, position = jax.random.key(3), jnp.arange(len(x))
        z = noise.normal(compare.keys_of(key, position), (config.model.latent_size,), 'latent')
        batch = {'x': jnp.asarray(x, jnp.float64), 'position': position}
        found = compare.stepped(config, variables, batch, key)
        images, latents = (torch.from_numpy(np.array(array)) for array in (x.transpose(0, 3, 1, 2), z))
    generator, discriminator = compare.Moved(made), compare.Moved(judge)
    rate, criterion = config.optimizer.generator.learning_rate, nn.BCELoss()
    first, second = (torch.optim.Adam(net.parameters(), rate, (0.5, 0.999)) for net in (judge, made))
    fakes = made.main(latents[:, :, None, None])
    ones = torch.ones(len(x), dtype=torch.float64)
    verdict = lambda images: judge.main(images).flatten()
    first.zero_grad()
    (criterion(verdict(images.double()), ones) + criterion(verdict(fakes.detach()), 0 * ones)).backward()
    first.step()
    changes = discriminator.changes()
    second.zero_grad()
    criterion(verdict(fakes), ones).backward()
    second.step()
    for kind, theirs in (('discriminator', changes), ('generator', generator.changes())):
        table = compare.table_of(certificate, config, kind)
        compare.compare_update(certificate, f'DCGAN, Adam, {kind}', table, theirs, found)


def main() -> None:
    """Compares both networks, and a step of both players."""
    options = compare.arguments(__doc__ or '', 'a checkout of pytorch/examples')
    config = dcgan.get_config('paper64' if options.full else '')
    if not options.full:
        config.data.update(resolution=16, channels=1)
        config.model.latent_size, config.model.networks.width = 8, 4
    side, channels = config.data.resolution, config.data.channels
    width, latents, levels = config.model.networks.width, config.model.latent_size, side.bit_length() - 3
    whose = '' if options.full else 'its layers with fewer levels, written again'
    certificate = compare.Certificate('pytorch_dcgan', options, f'width {width}, {side}x{side}', peer=whose)
    nets, draw = generators.networks(config, None), np.random.default_rng(0)
    z = draw.standard_normal((3, latents)).astype(np.float32)
    if options.full:
        sizes = dict(nz=latents, ngf=width, ndf=width, nc=channels)
        path = options.source / 'dcgan/main.py'
        peers = compare.definitions(path, 'Generator', 'Discriminator', nn=nn, **sizes)
        made, judge = peers['Generator'](0), peers['Discriminator'](0)
    else:
        made, judge = generator(latents, width, channels, levels), discriminator(width, channels, levels)
    tensors = compare.tensors_of(compare.randomize(made))
    variables = compare.converted(certificate, config, 'generator', tensors)['generator']
    output = compare.compare(
        certificate,
        'DCGAN, generator',
        lambda z: made.main(z[:, :, None, None]),
        lambda z: nets.generator.apply(variables, z, False),
        z,
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'pytorch_dcgan-generator.npz', tensors, {'z': z}, output)
    x = draw.standard_normal((3, side, side, channels)).astype(np.float32)
    tensors = compare.tensors_of(compare.randomize(judge))
    fixed = compare.converted(certificate, config, 'discriminator', tensors)['discriminator']
    output = compare.compare(
        certificate,
        'DCGAN, discriminator',
        lambda x: judge.main[:-1](x)[:, 0, 0, 0],
        lambda x: nets.discriminator.apply(fixed, x, False),
        x,
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'pytorch_dcgan-discriminator.npz', tensors, {'x': x}, output)
    compare_step(certificate, config, made, judge, np.tanh(draw.standard_normal((8, side, side, channels))))
    certificate.write()


if __name__ == '__main__':
    main()
