"""Parity with mapping, synthesis and discriminator of NVlabs/stylegan2-ada-pytorch.

python -m benchmarks.parity.stylegan2_ada --source=FOLDER [--full] [--certify]
"""

import functools
import math
import pickle
import sys

import numpy as np
import torch

from benchmarks.parity import compare
from configs import stylegan2
from genlab import published
from genlab.models import generators
from genlab.published import mapping, torch_file

GROUP, BATCH = 4, 8  # two groups of the minibatch standard deviation
# Example j of the peer's batch belongs to group j modulo their number; our groups are runs.
ORDER = [(j % (BATCH // GROUP)) * GROUP + j // (BATCH // GROUP) for j in range(BATCH)]


def natural(module: torch.nn.Module) -> torch.nn.Module:
    """Scales random weights to unit variance, as layers of equalised learning rates have it, and draws the noise."""
    draw = np.random.default_rng(1)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name.endswith('noise_const'):
                buffer.copy_(torch.from_numpy(np.round(4 * draw.standard_normal(buffer.shape)) / 4))
        for number, layer in enumerate(module.modules(), 1):
            if hasattr(layer, 'noise_strength'):
                layer.noise_strength.fill_(number / 16)
            weight, bias = getattr(layer, 'weight', None), getattr(layer, 'bias', None)
            if weight is not None:
                gain = getattr(layer, 'weight_gain', 1 / math.sqrt(math.prod(weight.shape[1:])))
                weight.mul_(2.0 ** -round(math.log2(gain)))
            if bias is not None:
                bias.mul_(2.0 ** -round(math.log2(getattr(layer, 'bias_gain', 1.0))))
    return module


def main() -> None:
    """Compares three networks, and reads them from a pickle without executing its source text."""
    options = compare.arguments(__doc__ or '', 'a checkout of NVlabs/stylegan2-ada-pytorch')
    sys.path.append(str(options.source))
    from training.networks import Discriminator, Generator

    config = stylegan2.get_config('ffhq256')
    config.data.update(source='digits', dir='')
    chosen = config.model.networks
    chosen.update(group=GROUP, clamp=256.0 if options.full else 2.0)  # activations of the tiny networks reach 2
    if not options.full:
        config.data.resolution, config.model.latent_size = 8, 8
        chosen.update(base=32, most=8, width=8, layers=2)
    side = config.data.resolution
    size = f'width {chosen.most}, {chosen.layers} layers of the mapping, images of {side}x{side}'
    certificate = compare.Certificate('stylegan2_ada', options, size)
    shared = dict(channel_base=chosen.base, channel_max=chosen.most, conv_clamp=chosen.clamp)
    sizes = dict(c_dim=0, img_resolution=side, img_channels=3)
    generator = Generator(
        z_dim=config.model.latent_size,
        w_dim=chosen.width,
        mapping_kwargs=dict(num_layers=chosen.layers),
        synthesis_kwargs=shared,
        **sizes,
    )
    judge = Discriminator(epilogue_kwargs=dict(mbstd_group_size=GROUP), **sizes, **shared)
    for module in (generator, judge):
        natural(compare.randomize(module))
    content = pickle.dumps(dict(G=generator, D=judge, G_ema=generator, augment_pipe=None, training_set_kwargs={}))
    path = (options.fixture or options.source) / 'stylegan2.pkl'
    path.write_bytes(content)
    tree = torch_file.read_modules(path)
    path.unlink()
    record = published.record('stylegan2_ada')
    mapping.check(record.complete(config), record.translate(tree), 'the pickle')
    nets, draw = generators.networks(config, None), np.random.default_rng(0)
    config.model.dtype = 'float64'
    exact = generators.networks(config, None)
    config.model.dtype = 'float32'
    drawn = functools.partial(compare.drawn, draw, options)

    tensors = tree['G_ema']['state']
    variables = compare.converted(certificate, config, 'generator', tensors)
    z, styles = drawn(2, config.model.latent_size), drawn(2, nets.layers, chosen.width)
    w = compare.compare(
        certificate,
        'StyleGAN2, mapping',
        lambda z: generator.mapping(z, None)[:, 0],
        lambda z: nets.mapping.apply(variables['mapping'], z, False),
        z,
    )
    output = compare.compare(
        certificate,
        'StyleGAN2, synthesis',
        lambda styles: generator.synthesis(styles, noise_mode='const'),
        lambda styles: nets.generator.apply(variables['generator'], styles, False),
        styles,
        (
            generator.synthesis,
            lambda variables, styles: exact.generator.apply(variables, styles, False),
            variables['generator'],
        ),
    )
    if options.fixture:
        inputs = {'z': z, 'styles': styles, 'mapping.output': w}
        path = options.fixture / 'stylegan2_ada-generator.npz'
        compare.write_fixture(path, tensors, inputs, output, ('.resample_filter',))
    tensors = tree['D']['state']
    variables = compare.converted(certificate, config, 'discriminator', tensors)
    x = drawn(BATCH, side, side, 3)
    judged = variables['discriminator']
    output = compare.compare(
        certificate,
        'StyleGAN2, discriminator',
        lambda x: judge(x[ORDER], None)[np.argsort(ORDER), 0],
        lambda x: nets.discriminator.apply(judged, x, False),
        x,
        (judge, lambda variables, x: exact.discriminator.apply(variables, x, False), judged),
    )
    if options.fixture:
        path = options.fixture / 'stylegan2_ada-discriminator.npz'
        compare.write_fixture(path, tensors, {'x': x}, output, ('.resample_filter',))
    certificate.write()


if __name__ == '__main__':
    main()
