"""Parity with CycleGAN of junyanz/pytorch-CycleGAN-and-pix2pix: the residual network and the discriminator of patches.

python -m benchmarks.parity.cyclegan --source=FOLDER [--full] [--certify]
"""

import functools
import itertools
import sys
import types

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn

from benchmarks.parity import compare
from configs import cyclegan
from genlab.models import cycle

RATE = 2e-4  # of learning


def compare_step(
    certificate: compare.Certificate, config: ConfigDict, peers: dict[str, nn.Module], draw: np.random.Generator
) -> None:
    """Compares one step of Adam of each player by the peer's own training code, on one image of each domain.

    The peer moves its generators first, from fakes that its discriminators then judge; we move discriminators first. So
    each player of ours moves alone, from the same weights. The peer's pool shows the first 50 fakes as they are.
    """
    from models import networks
    from models.cycle_gan_model import CycleGANModel
    from util.image_pool import ImagePool

    variables = {}
    for kind, module in peers.items():
        variables |= compare.converted(certificate, config, kind, compare.tensors_of(module), counted=False)
    side, config.model.pool, found = config.data.resolution, 0, {}
    given = {name: np.tanh(draw.standard_normal((1, side, side, 3))) for name in (config.model.input, 'x')}
    for player in ('generator', 'discriminator'):
        config.train.order = (player,)
        config.optimizer[player].learning_rate = RATE  # the first value of the schedule
        found[player[0].upper()] = compare.images_stepped(config, variables, given)
    moved = {kind: compare.Moved(module) for kind, module in peers.items()}
    training = CycleGANModel.__new__(CycleGANModel)  # without its files and devices
    training.opt = types.SimpleNamespace(lambda_identity=0.5, lambda_A=10.0, lambda_B=10.0)
    training.real_A, training.real_B = compare.double(given[config.model.input]), compare.double(given['x'])
    training.fake_A_pool, training.fake_B_pool = ImagePool(50), ImagePool(50)
    for kind, module in peers.items():
        setattr(training, f'net{kind}', module)
    with compare.widened():
        training.criterionGAN = networks.GANLoss('lsgan')
        training.criterionCycle, training.criterionIdt = nn.L1Loss(), nn.L1Loss()
        for player in 'GD':
            parameters = itertools.chain(*(peers[f'{player}_{domain}'].parameters() for domain in 'AB'))
            setattr(training, f'optimizer_{player}', torch.optim.Adam(parameters, lr=RATE, betas=(0.5, 0.999)))
        training.optimize_parameters()
    for kind, one in moved.items():
        table = compare.table_of(certificate, config, kind)
        compare.compare_update(certificate, f'CycleGAN, Adam, {kind}', table, one.changes(), found[kind[0]])


def main() -> None:
    """Compares one generator and one discriminator, and a step of all four networks.

    The other direction has equal networks.
    """
    options = compare.arguments(__doc__ or '', 'a checkout of junyanz/pytorch-CycleGAN-and-pix2pix')
    sys.path.append(str(options.source))
    from models import networks

    config = cyclegan.get_config('horse2zebra')
    config.data.update(source='scenes', fields=('style',), unpaired='style')
    config.model.input = 'style'
    config.data.resolution = 64  # with the width and the depth for 256x256
    if not options.full:
        config.data.resolution = 16
        config.model.generator.update(width=1, blocks=2)
        config.model.discriminator.update(width=2, layers=2)
    side, made, judge = config.data.resolution, config.model.generator, config.model.discriminator
    size = f'{made.blocks} blocks, width {made.width}, images of {side}x{side}'
    certificate = compare.Certificate('cyclegan', options, size)
    model, draw = cycle.from_config(config, None), np.random.default_rng(0)
    with compare.in_float64(config):
        double = cycle.from_config(config, None)
    settings = dict(norm_layer=functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False))
    generator = networks.ResnetGenerator(3, 3, made.width, n_blocks=made.blocks, **settings)
    discriminator = networks.NLayerDiscriminator(3, judge.width, judge.layers, **settings)
    for kind, module, network, ours, exact in (
        ('G_A', generator, 'forward', model.generators['forward'], double.generators['forward']),
        ('D_A', discriminator, 'discriminator_forward', *(one.discriminators['forward'] for one in (model, double))),
    ):
        tensors = compare.tensors_of(compare.randomize(module))
        variables = compare.converted(certificate, config, kind, tensors)[network]
        x = compare.drawn(draw, options, 1, side, side, 3)
        output = compare.compare(
            certificate,
            f'CycleGAN, {network}',
            lambda x, peer=module, kind=kind: peer(x)[:, 0] if kind == 'D_A' else peer(x),
            lambda x, ours=ours, variables=variables: ours.apply(variables, x, False),
            x,
            (module, lambda variables, x, ours=exact: ours.apply(variables, x, False), variables),
        )
        if options.fixture:
            compare.write_fixture(options.fixture / f'cyclegan-{kind}.npz', tensors, {'x': x}, output)
    others = {
        'G_B': networks.ResnetGenerator(3, 3, made.width, n_blocks=made.blocks, **settings),
        'D_B': networks.NLayerDiscriminator(3, judge.width, judge.layers, **settings),
    }
    peers = {'G_A': generator, 'D_A': discriminator}
    peers |= {kind: compare.randomize(module, seed=1) for kind, module in others.items()}
    compare_step(certificate, config, peers, draw)
    certificate.write()


if __name__ == '__main__':
    main()
