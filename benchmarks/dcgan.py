"""Times a DCGAN training step at 64x64x3, width 64, batch 64 and in float32 against the same networks in PyTorch.

A step is a discriminator turn and then a generator turn: the non-saturating loss on logits, Adam(2e-4, b1 0.5).
The contenders run interleaved in one process, so that a busy machine slows them alike, and the fastest of PyTorch's
modes counts.

    python -m benchmarks.dcgan --rounds=15
"""

import argparse
import os
import platform
import sys
import time

# glibc gives large freed blocks back to the kernel and pays a page fault for each 4 KB when it gets them again; these
# settings keep them. They help both sides: XLA's threads allocate from arenas of 64 MB each unless there is only one.
MALLOC = {
    'MALLOC_TRIM_THRESHOLD_': '8589934592', 'MALLOC_MMAP_THRESHOLD_': '8589934592', 'MALLOC_TOP_PAD_': '536870912',
    'MALLOC_ARENA_MAX': '1',
}
LATENT, RATE, MOMENTUM = 100, 2e-4, 0.5


def genlab_step(batch: int):
    """Our step as a function of no arguments that waits for its result."""
    import jax
    import jax.numpy as jnp
    import optax

    from genlab.networks.dcgan import Discriminator, Generator
    generator, discriminator, adam = Generator(), Discriminator(), optax.adam(RATE, b1=MOMENTUM)

    def generate(g, z):
        return generator.apply(g, z, train=True, mutable='batch_stats')

    def judge(d, images):
        logits, stats = discriminator.apply(d, images, train=True, mutable='batch_stats')
        return logits, d | stats

    def discriminator_loss(params, d, fake, images):
        real, d = judge(d | {'params': params}, images)
        fake, d = judge(d, fake)
        return (jax.nn.softplus(-real) + jax.nn.softplus(fake)).mean(), d['batch_stats']

    def generator_loss(params, g, d, z):
        fake, stats = generate(g | {'params': params}, z)
        logits, d = judge(d, fake)
        return jax.nn.softplus(-logits).mean(), (stats['batch_stats'], d['batch_stats'])

    def descend(variables, gradients, moments, stats):
        updates, moments = adam.update(gradients, moments)
        return {'params': optax.apply_updates(variables['params'], updates), 'batch_stats': stats}, moments

    def step(state, images, key):
        g, d, g_moments, d_moments = state
        z = jax.random.normal(key, (batch, LATENT))
        fake, _ = generate(g, z)  # the compiler finds that the generator's turn computes the same images
        (d_loss, stats), gradients = jax.value_and_grad(discriminator_loss, has_aux=True)(d['params'], d, fake, images)
        d, d_moments = descend(d, gradients, d_moments, stats)
        (g_loss, (g_stats, stats)), gradients = jax.value_and_grad(generator_loss, has_aux=True)(g['params'], g, d, z)
        g, g_moments = descend(g, gradients, g_moments, g_stats)
        return (g, d | {'batch_stats': stats}, g_moments, d_moments), jnp.stack([d_loss, g_loss])

    @jax.jit
    def init(key):
        g = generator.init(key, jnp.zeros((batch, LATENT)), train=True)
        d = discriminator.init(key, jnp.zeros((batch, 64, 64, 3)), train=True)
        return g, d, adam.init(g['params']), adam.init(d['params'])

    key = jax.random.key(0)
    images = jnp.tanh(jax.random.normal(key, (batch, 64, 64, 3)))
    state = init(key)
    started = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(state, images, key).compile()
    flops = compiled.cost_analysis()['flops']
    print(f'genlab: {flops / 1e9:.0f} GFLOP a step, compiled in {time.perf_counter() - started:.1f} s')

    def run():
        nonlocal state
        state, losses = compiled(state, images, key)
        return jax.block_until_ready(losses)

    return run


def torch_networks():
    """The networks of PyTorch's own DCGAN example."""
    from torch import nn
    norm = nn.BatchNorm2d

    def block(layer, n, m, activation):
        return layer(n, m, 4, 2, 1, bias=False), norm(m), activation()

    leaky = lambda: nn.LeakyReLU(0.2, inplace=True)
    relu = lambda: nn.ReLU(True)
    up, down = nn.ConvTranspose2d, nn.Conv2d
    generator = nn.Sequential(
        up(LATENT, 512, 4, 1, 0, bias=False), norm(512), relu(), *block(up, 512, 256, relu), *block(up, 256, 128, relu),
        *block(up, 128, 64, relu), up(64, 3, 4, 2, 1, bias=False), nn.Tanh())
    discriminator = nn.Sequential(
        down(3, 64, 4, 2, 1, bias=False), leaky(), *block(down, 64, 128, leaky), *block(down, 128, 256, leaky),
        *block(down, 256, 512, leaky), down(512, 1, 4, 1, 0, bias=False))
    return generator, discriminator


def torch_step(batch: int, channels_last: bool, compiled: bool):
    """PyTorch's step in the usual order: real, fake.detach(), backward; the same fakes again for the generator."""
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
        adam[0].zero_grad()
        softplus(-discriminator(fake)).mean().backward()
        adam[0].step()

    return run


def contenders(batch: int) -> dict:
    """Every contender that runs here, warmed up."""
    import torch
    torch.set_num_threads(2)
    makers = {'genlab': lambda: genlab_step(batch)}
    for compiled in (False, True):
        for last in (False, True):
            name = f'torch {"compile" if compiled else "eager"}{" channels_last" if last else ""}'
            makers[name] = lambda last=last, compiled=compiled: torch_step(batch, last, compiled)
    ready = {}
    for name, make in makers.items():
        try:
            run = make()
            for _ in range(3):
                run()
            ready[name] = run
        except Exception as error:  # a compiler may be missing: say so and compare with the rest
            print(f'{name} does not run here: {str(error).splitlines()[0]}')
    return ready


def measure(ready: dict, rounds: int) -> dict:
    """Seconds of each contender in each round."""
    seconds = {name: [] for name in ready}
    for _ in range(rounds):
        for name, run in ready.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(seconds: dict, batch: int) -> None:
    import jax
    import numpy as np
    import torch
    print(f'{platform.machine()}, {os.cpu_count()} cores, 2 threads; jax {jax.__version__}, torch {torch.__version__}')
    print('| contender | median s | minimum s | images/s |\n|---|---|---|---|')
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    for name, times in seconds.items():
        print(f'| {name} | {median[name]:.3f} | {min(times):.3f} | {batch / median[name]:.0f} |')
    others = [name for name in seconds if name != 'genlab']
    medians = min(median[name] for name in others) / median['genlab']
    minima = min(min(seconds[name]) for name in others) / min(seconds['genlab'])
    paired = np.median(np.min([seconds[name] for name in others], 0) / np.array(seconds['genlab']))
    print(f'fastest torch / genlab: {medians:.2f} of medians, {minima:.2f} of minima, {paired:.2f} by round')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=15)
    options = parser.parse_args()
    if any(name not in os.environ for name in MALLOC):  # glibc reads them when a process starts
        os.execve(sys.executable, [sys.executable, '-m', 'benchmarks.dcgan', *sys.argv[1:]], os.environ | MALLOC)
    report(measure(contenders(options.batch), options.rounds), options.batch)


if __name__ == '__main__':
    main()
