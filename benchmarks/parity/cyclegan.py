"""Parity with CycleGAN of junyanz/pytorch-CycleGAN-and-pix2pix: the residual network and the discriminator of patches.

python -m benchmarks.parity.cyclegan --source=FOLDER [--full] [--certify]
"""

import functools
import sys

import numpy as np
from torch import nn

from benchmarks.parity import compare
from configs import cyclegan
from genlab.models import cycle


def main() -> None:
    """Compares one generator and one discriminator. The other direction has equal networks."""
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
    config.model.dtype = 'float64'
    double = cycle.from_config(config, None)
    config.model.dtype = 'float32'
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
    certificate.write()


if __name__ == '__main__':
    main()
