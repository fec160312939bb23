"""Parity with pix2pix of junyanz/pytorch-CycleGAN-and-pix2pix: the U-Net and the discriminator of patches.

python -m benchmarks.parity.pix2pix --source=FOLDER [--full] [--certify]

Batch normalisation takes the statistics of single images, as in the peer's training and tests; dropout is off.
"""

import sys
import types
from collections.abc import Callable

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn

from benchmarks.parity import compare
from configs import pix2pix
from genlab.models import translation

RATE = 2e-4  # of learning


def one_by_one(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a function that normalises each image of a batch by its own statistics."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    return lambda x: torch.cat([module(x[i : i + 1]) for i in range(len(x))])


def compare_step(
    certificate: compare.Certificate, config: ConfigDict, made: nn.Module, judge: nn.Module, draw: np.random.Generator
) -> None:
    """Compares one step of Adam of both players by the peer's own training code, on one pair, without dropout."""
    from models import networks
    from models.pix2pix_model import Pix2PixModel

    variables = {}
    for kind, module in (('G', made), ('D', judge)):
        variables |= compare.converted(certificate, config, kind, compare.tensors_of(module), counted=False)
    side, channels = config.data.resolution, config.data.channels
    pair = {name: np.tanh(draw.standard_normal((1, side, side, channels))) for name in (config.model.input, 'x')}
    config.model.generator.dropout = 0.0
    for player in ('generator', 'discriminator'):
        config.optimizer[player].learning_rate = RATE  # the first value of the schedule
    found = compare.images_stepped(config, variables, pair)
    for layer in made.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    moved = {'G': compare.Moved(made), 'D': compare.Moved(judge)}
    training = Pix2PixModel.__new__(Pix2PixModel)  # without its files and devices
    training.netG, training.netD, training.opt = made, judge, types.SimpleNamespace(lambda_L1=100.0)
    training.real_A, training.real_B = compare.double(pair[config.model.input]), compare.double(pair['x'])
    with compare.widened():
        training.criterionGAN, training.criterionL1 = networks.GANLoss('vanilla'), nn.L1Loss()
        training.optimizer_G, training.optimizer_D = (
            torch.optim.Adam(module.parameters(), lr=RATE, betas=(0.5, 0.999)) for module in (made, judge)
        )
        training.optimize_parameters()
    for kind, network in (('G', 'generator'), ('D', 'discriminator')):
        table = compare.table_of(certificate, config, kind)
        compare.compare_update(certificate, f'pix2pix, Adam, {network}', table, moved[kind].changes(), found)


def main() -> None:
    """Compares generator and discriminator, and a step of their training."""
    options = compare.arguments(__doc__ or '', 'a checkout of junyanz/pytorch-CycleGAN-and-pix2pix')
    sys.path.append(str(options.source))
    from models import networks

    config = pix2pix.get_config('facades')
    config.data.update(source='scenes', name='', fields=('style',))
    config.model.input = 'style'
    if not options.full:
        config.data.update(resolution=32, channels=1)
        config.model.generator.update(width=1, depth=5)
        config.model.discriminator.update(width=2, layers=2)
    side, channels = config.data.resolution, config.data.channels
    chosen, judged = config.model.generator, config.model.discriminator
    size = f'U-Net of {chosen.depth} levels, width {chosen.width}, images of {side}x{side}'
    certificate = compare.Certificate('pix2pix', options, size)
    model, draw = translation.from_config(config, None), np.random.default_rng(0)
    with compare.in_float64(config):
        double = translation.from_config(config, None)
    made = networks.UnetGenerator(channels, channels, chosen.depth, chosen.width, use_dropout=True)
    judge = networks.NLayerDiscriminator(2 * channels, judged.width, judged.layers)
    for kind, module, network, shape in (
        ('G', made, 'generator', (side, side, channels)),
        ('D', judge, 'discriminator', (side, side, 2 * channels)),
    ):
        tensors = compare.tensors_of(compare.randomize(module))
        variables = compare.converted(certificate, config, kind, tensors)[network]
        ours, exact = getattr(model, network), getattr(double, network)
        x = compare.drawn(draw, options, 1, *shape)
        output = compare.compare(
            certificate,
            f'pix2pix, {network}',
            lambda x, peer=one_by_one(module), network=network: peer(x)[:, 0] if network[0] == 'd' else peer(x),
            lambda x, ours=ours, variables=variables: ours.apply(variables, x, False),
            x,
            (module, lambda variables, x, ours=exact: ours.apply(variables, x, False), variables),
        )
        if options.fixture:
            path, ignored = options.fixture / f'pix2pix-{kind}.npz', ('.running_mean', '.running_var', '_tracked')
            compare.write_fixture(path, tensors, {'x': x}, output, ignored)
    compare_step(certificate, config, made, judge, draw)
    certificate.write()


if __name__ == '__main__':
    main()
