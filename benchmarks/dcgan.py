"""Times a DCGAN training step at 64x64x3, width 64 and batch 64, in float32, against the same networks in PyTorch.

A step is a discriminator turn followed by a generator turn, with the non-saturating loss on logits and Adam(2e-4, b1
0.5). Each contender runs in processes of its own. The result is for the fastest mode of PyTorch.

    python -m benchmarks.dcgan --rounds=15
"""

import argparse
import pathlib
import time
from collections.abc import Callable
from typing import Any

from benchmarks import contest

LATENT, RATE, MOMENTUM = 100, 2e-4, 0.5


def genlab_step(batch: int) -> Callable[[], None]:
    """Compiles the step of configs/dcgan.py:paper64 as in the loop; returns a function that runs it and waits."""
    import jax
    import numpy as np

    from genlab import experiment
    from genlab.main import read
    from genlab.run.platform import set_up_jax
    from genlab.training import parallel, program, totals

    set_up_jax()
    config = read(str(pathlib.Path(__file__).parents[1] / 'configs/dcgan.py') + ':paper64')
    config.data.batch_size = batch
    config.average, config.data.flip = {}, False  # as in the PyTorch step
    placement = parallel.place(config.placement)
    (paper64,) = program.programs(config, experiment.load(config.experiment), placement, declared=True)
    state = parallel.initial(placement, program.make_init(paper64))
    sums = parallel.replicate(placement, totals.zero(program.metric_names(paper64, placement, state)))
    constants = parallel.replicate(placement, program.make_constants(paper64))
    images = np.random.default_rng(0).integers(0, 256, (1, batch, 64, 64, 3), np.uint8)
    one = {**program.load(paper64, 0, 1, slice(None)), 'image': images}
    carry, batches = (state, sums), placement.put(program.fold(paper64, one))
    started = time.perf_counter()
    compiled = placement.compile(program.make_call(paper64), carry).lower(carry, batches, constants).compile()
    flops = compiled.cost_analysis()['flops']
    print(f'genlab: {flops / 1e9:.0f} GFLOP per step, compiled in {time.perf_counter() - started:.1f} s')

    def run():
        nonlocal carry
        carry = jax.block_until_ready(compiled(carry, batches, constants))

    return run


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
    adam = [torch.optim.Adam(n.parameters(), RATE, (MOMENTUM, 0.999)) for n in (generator, discriminator)]
    images = torch.tanh(torch.randn(batch, 3, 64, 64)).contiguous(memory_format=layout)
    if compiled:
        generator, discriminator = (torch.compile(n, dynamic=False) for n in (generator, discriminator))

    def run():
        fake = generator(torch.randn(batch, LATENT, 1, 1))
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


def makers(batch: int, frozen: bool) -> dict:
    """Returns name -> function that builds the contender."""
    made: dict[str, Callable] = {'genlab': lambda: genlab_step(batch)}
    for compiled in (False, True):
        for last in (False, True):
            name = f'torch {"compile" if compiled else "eager"}{" channels_last" if last else ""}'
            made[name] = lambda last=last, compiled=compiled: torch_step(batch, last, compiled, frozen)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument(
        '--frozen', action='store_true', help='PyTorch without gradients of the discriminator in the generator turn'
    )
    parser.add_argument('--only', default='', help='prefix of the names of contenders')
    options = parser.parse_args()
    made = makers(options.batch, options.frozen)
    contest.compete('benchmarks.dcgan', made, options.rounds, options.batch, only=options.only)


if __name__ == '__main__':
    main()
