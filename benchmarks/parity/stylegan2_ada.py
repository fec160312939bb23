"""Parity with mapping, synthesis and discriminator of NVlabs/stylegan2-ada-pytorch.

python -m benchmarks.parity.stylegan2_ada --source=FOLDER [--full] [--certify]
"""

import functools
import itertools
import math
import pickle
import sys
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks.parity import compare
from configs import stylegan2
from genlab import published
from genlab.models import generators
from genlab.networks.layers.resampling import doublings
from genlab.noise import normal, stream
from genlab.published import mapping, torch_file
from genlab.training.optimizers import adam

RATE = 2e-3  # of learning
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


def compare_step(
    certificate: compare.Certificate,
    config: ConfigDict,
    generator: torch.nn.Module,
    judge: torch.nn.Module,
    draw: np.random.Generator,
) -> None:
    """Compares one step of Adam of each player by the peer's own loss: R1 and path lengths included, no mixed styles.

    The peer has a step for a loss and another one for a penalty; here one gradient has both, as with its phases
    `Gboth` and `Dboth`. Each player moves alone, from the same weights. A batch is one group of the minibatch standard
    deviation. Path lengths are of every second example here, of the first half there.

    Args:
      certificate: takes the figures.
      config: of the run.
      generator: the peer's.
      judge: the peer's discriminator.
      draw: of the images.
    """
    from training import loss

    variables = {'path_length': {'path_length': {'mean': jnp.zeros(())}}}
    for kind, module in (('generator', generator), ('discriminator', judge)):
        variables |= compare.converted(certificate, config, kind, compare.tensors_of(module), counted=False)
    side = config.data.resolution
    x = np.tanh(draw.standard_normal((GROUP, side, side, 3)))
    config.model.mixing = 0.0
    config.losses.discriminator, config.losses.generator = dict(adversarial=1.0, r1=10.0), dict(adversarial=1.0)
    config.losses.generator.path_length = 2.0
    found = {}
    for player in ('generator', 'discriminator'):
        config.train.order = (player,)
        config.optimizer[player] = adam(RATE, b1=0.0, b2=0.99)
        found[player] = compare.images_stepped(config, variables, {'x': x})
    with compare.float64():
        keys = compare.keys_of(jax.random.key(3), jnp.arange(GROUP))
        z = np.array(normal(keys, (config.model.latent_size,), 'latent'))
        direction = np.array(normal(keys[::2], x.shape[1:], 'path'))
    order = np.r_[0:GROUP:2, 1:GROUP:2]  # the peer takes path lengths of the first half
    names = [
        f'{name}_{i}' for i in range(doublings(side) + 1) for name in (('double',) if i else ()) + ('convolution',)
    ]

    def noise(chosen: np.ndarray) -> Iterator[torch.Tensor]:
        """Yields the noise of our layers in the order of the peer's."""
        for name in names:
            size = 4 * 2 ** int(name.rpartition('_')[2])
            with compare.float64():
                pixels = normal(stream(keys, 'pixels'), (size, size, 1), f'pixel noise of {name}_noise')
                yield compare.double(np.asarray(pixels)[chosen])

    moved = {'generator': compare.Moved(generator), 'discriminator': compare.Moved(judge)}
    with compare.widened():
        training = loss.StyleGAN2Loss('cpu', generator.mapping, generator.synthesis, judge, style_mixing_prob=0)
        training.pl_mean = torch.zeros([])
        rates = RATE, (0.0, 0.99)
        optimizers = [torch.optim.Adam(module.parameters(), *rates) for module in (generator, judge)]
        for player, module, other in (('generator', generator, judge), ('discriminator', judge, generator)):
            module.requires_grad_(True)
            other.requires_grad_(False)
            drawn = itertools.chain(noise(order), noise(order[: GROUP // 2]))
            with (
                mock.patch.object(loss.training_stats, 'report'),
                mock.patch.object(torch, 'randn', lambda *_, drawn=drawn, **__: next(drawn)),
                mock.patch.object(torch, 'randn_like', lambda _: compare.double(direction)),
            ):
                latents, c = torch.from_numpy(z[order]), torch.zeros([GROUP, 0])
                training.accumulate_gradients(
                    player[0].upper() + 'both', compare.double(x), c, latents, c, sync=True, gain=1
                )
        for optimizer in optimizers:
            optimizer.step()
    for player, one in moved.items():
        table, theirs = compare.table_of(certificate, config, player), one.changes()
        compare.compare_update(certificate, f'StyleGAN2, Adam, {player}', table, theirs, found[player])


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
    with compare.in_float64(config):
        exact = generators.networks(config, None)
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
    compare_step(certificate, config, generator, judge, draw)
    certificate.write()


if __name__ == '__main__':
    main()
