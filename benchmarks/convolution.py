"""Times each layer of the DCGAN separately: forward pass, input gradient and kernel gradient, against lax and PyTorch.

A layer has 4x4 kernels and stride 2, at batch 64 in float32. 'spread' is also the forward pass of a transposed layer,
and 'convolve' its input gradient. The contenders run alternately. The numbers are minima in milliseconds, because other
load on the machine only adds to them.

    python -m benchmarks.convolution --rounds=25
"""

import argparse
from time import perf_counter

from benchmarks import contest

LAYERS = ((64, 3, 64), (32, 64, 128), (16, 128, 256), (8, 256, 512))  # side, channels in, channels out
BATCH = 64


def ours(side: int, inside: int, outside: int) -> dict:
    """Builds the three products of genlab and of XLA.

    Args:
      side: height and width of the larger map, in pixels.
      inside: channels of the larger map.
      outside: channels of the smaller map.

    Returns:
      product -> {'ours', 'lax'} -> function without arguments.
    """
    import jax
    import jax.numpy as jnp

    from genlab.networks.layers import convolution
    from genlab.networks.layers.kernels import patches

    geometry = patches.Geometry((side, side), (4, 4), (2, 2), ((1, 1), (1, 1)))
    normal = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape, jnp.float32)
    x, kernel = normal(0, BATCH, side, side, inside), normal(1, 4, 4, inside, outside)
    y = normal(2, BATCH, side // 2, side // 2, outside)
    products = {
        'convolve': (patches.convolve, patches.plain, x, kernel),
        'spread': (patches.spread, convolution._plain_spread, y, kernel),
        'correlate': (patches.correlate, patches.plain_correlate, x, y),
    }

    def ready(operation, *operands):
        compiled = jax.jit(operation, static_argnames='geometry').lower(*operands, geometry=geometry).compile()
        return lambda: jax.block_until_ready(compiled(*operands))

    return {
        name: {'ours': ready(fast, *operands), 'lax': ready(plain, *operands)}
        for name, (fast, plain, *operands) in products.items()
    }


def theirs(side: int, inside: int, outside: int, layout: str) -> dict:
    """Builds the three products of PyTorch.

    Args:
      side: height and width of the larger map, in pixels.
      inside: channels of the larger map.
      outside: channels of the smaller map.
      layout: the name of a torch memory format.

    Returns:
      product -> function without arguments.
    """
    import torch
    from torch.nn.functional import conv2d, conv_transpose2d

    torch.set_num_threads(2)
    normal = lambda *shape: torch.randn(shape).contiguous(memory_format=getattr(torch, layout))
    x, kernel = normal(BATCH, inside, side, side), normal(outside, inside, 4, 4)
    y = normal(BATCH, outside, side // 2, side // 2)
    backward = torch.ops.aten.convolution_backward
    settings = (None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False])
    return {
        'convolve': lambda: conv2d(x, kernel, stride=2, padding=1),
        'spread': lambda: conv_transpose2d(y, kernel, stride=2, padding=1),
        'correlate': lambda: backward(y, x, kernel, *settings),
    }


def minima(runs: dict, rounds: int) -> dict[str, float]:
    """Times functions alternately, after two warm-up rounds; returns name -> least time in milliseconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            started = perf_counter()
            run()
            seconds[name] += [perf_counter() - started] * (number >= 2)
    return {name: 1000 * min(times) for name, times in seconds.items()}


def main() -> None:
    """Prints one row per layer and product, with the times in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=25)
    options = parser.parse_args()
    contest.keep_freed_memory('benchmarks.convolution')
    print('| layer | product | ours | lax | PyTorch | channels last | ours GFLOP/s |\n|---|---|---|---|---|---|---|')
    for layer in LAYERS:
        side, inside, outside = layer
        layouts = {layout: theirs(*layer, layout) for layout in ('contiguous_format', 'channels_last')}
        for name, runs in ours(*layer).items():
            times = minima(runs | {layout: products[name] for layout, products in layouts.items()}, options.rounds)
            rate = 2 * BATCH * (side // 2) ** 2 * 16 * inside * outside / times['ours'] / 1e6
            row = ' | '.join(f'{milliseconds:.1f}' for milliseconds in times.values())
            print(f'| {side}x{side}x{inside} to {outside} | {name} | {row} | {rate:.0f} |')


if __name__ == '__main__':
    main()
