"""Times autoregressive networks in float32.

`--task=train`: a training step with dropout and Adam, against the same network in PyTorch, for the fastest mode of each
side. `pixelcnn_pp` has 2 blocks per level, 40 filters and 10 mixtures, for 28x28 grey images. `transformer` has 6
layers of width 256 and 8 heads, for 16x16 tokens of 512 entries.

`--task=sample`: sampling from a cache, against a full pass per place. `gated_pixelcnn` has 64 channels and 12 layers,
for 28x28 binary pixels; `transformer` is as above. A time is the mean per place of the batch over `--places` places,
the first ones. Both ways draw the same values. Each contender runs in processes of its own.

    python -m benchmarks.autoregressive --task=sample --network=gated_pixelcnn --batch=16 --rounds=4
    python -m benchmarks.autoregressive --task=sample --network=transformer --batch=16 --rounds=4
    python -m benchmarks.autoregressive --task=train --network=pixelcnn_pp --batch=16 --rounds=8
    python -m benchmarks.autoregressive --task=train --network=transformer --batch=16 --rounds=8
    python -m benchmarks.autoregressive --task=train --network=transformer --width=512 --depth=12 --batch=64
"""

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import contest

SIDES = {'gated_pixelcnn': 28, 'pixelcnn_pp': 28, 'transformer': 16}
NETWORKS = {'train': ('pixelcnn_pp', 'transformer'), 'sample': ('gated_pixelcnn', 'transformer')}  # of each task
ROWS = 4  # that are sampled unless `--places` is given
ENTRIES, HEADS, DROPOUT = 512, 8, 0.1  # of the transformer
Makers = dict[str, Callable[[], Callable[[], Any]]]


def network_of(options: argparse.Namespace, unrolled: bool = False):
    """Returns a network; `unrolled`: compile every block of the transformer, instead of one in a loop."""
    from genlab.networks.autoregressive.gated_pixelcnn import GatedPixelCNN
    from genlab.networks.autoregressive.pixelcnn_pp import PixelCNNPP
    from genlab.networks.autoregressive.transformer import Transformer

    shape, width, depth = (options.side, options.side), options.width, options.depth
    return {
        'gated_pixelcnn': lambda: GatedPixelCNN(shape, 2, width=width or 64, layers=depth or 12),
        'pixelcnn_pp': lambda: PixelCNNPP(shape, 1, width=width or 40, blocks=depth or 2),
        'transformer': lambda: Transformer(
            shape, ENTRIES, width or 256, depth or 6, HEADS, dropout=DROPOUT, unrolled=unrolled
        ),
    }[options.network]()


def sampling_steps(options: argparse.Namespace, cached: bool, unrolled: bool = False) -> Callable[[], Any]:
    """Compiles sampling of the first places; returns a function that starts it and returns the samples.

    Args:
      options: of the command.
      cached: whether each place uses the cache, or the whole network.
      unrolled: see `network_of`.
    """
    import jax
    import jax.numpy as jnp

    from genlab.autoregressive.decoding import generate
    from genlab.noise import stream
    from genlab.run.platform import set_up_jax

    set_up_jax()
    network, batch, side = network_of(options, unrolled), options.batch, options.side
    places, keys = places_of(options), jax.random.split(jax.random.key(1), batch)
    empty = jnp.zeros((batch, side, side), jnp.int32)
    variables = jax.jit(lambda key: network.init(key, empty, False))(jax.random.key(0))
    draw = lambda logits, keys: jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

    @jax.jit
    def from_cache(variables, keys):
        start = lambda: network.apply(variables, batch, method='start')
        advance = lambda *given: network.apply(variables, *given, method='advance')
        return generate(start, advance, places, draw, keys)

    @jax.jit
    def from_nothing(variables, keys):
        def step(tokens, place):
            logits = network.apply(variables, tokens, False)[:, place // side, place % side]
            value = draw(logits, stream(keys, 'token', place))
            return tokens.at[:, place // side, place % side].set(value), value

        return jax.lax.scan(step, empty, jnp.arange(places, dtype=jnp.int32))[1].T

    sample = from_cache if cached else from_nothing
    return lambda: sample(variables, keys)


def training_steps(options: argparse.Namespace, unrolled: bool = False) -> Callable[[], Any]:
    """Compiles a training step; returns a function that starts it and returns the next state, to wait for."""
    import jax
    import jax.numpy as jnp
    import optax

    from genlab.losses.mixtures import mixture_of_logistics
    from genlab.losses.tokens import token_cross_entropy
    from genlab.run.platform import set_up_jax

    set_up_jax()
    network, optimizer = network_of(options, unrolled), optax.adam(2e-4)
    shape = options.batch, options.side, options.side
    if options.network == 'pixelcnn_pp':
        x = jax.random.randint(jax.random.key(0), (*shape, 1), 0, 256) / 127.5 - 1
        negative_log = mixture_of_logistics
    else:
        x = jax.random.randint(jax.random.key(0), shape, 0, ENTRIES)
        negative_log = lambda tokens, logits: token_cross_entropy(logits, tokens)

    @jax.jit
    def initial(key):
        params = network.init(key, x, False)
        return params, optimizer.init(params), 0

    def step(state, x):
        params, moments, number = state
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), number), len(x))
        loss = lambda params: jnp.mean(negative_log(x, network.apply(params, x, True, keys)))
        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments, number + 1

    state = initial(jax.random.key(0))
    compiled = jax.jit(step, donate_argnums=0).lower(state, x).compile()

    def run():
        nonlocal state
        state = compiled(state, x)
        return state

    return run


def torch_steps(options: argparse.Namespace, channels_last: bool, compiled: bool) -> Callable[[], None]:
    """Builds the same training step in PyTorch."""
    import torch

    from benchmarks import torch_autoregressive as networks

    shape, width, depth = (options.side, options.side), options.width, options.depth
    fast = (lambda module: torch.compile(module, dynamic=False)) if compiled else (lambda module: module)
    if options.network == 'transformer':
        tokens = torch.randint(0, ENTRIES, (options.batch, *shape))
        return networks.transformer_step(tokens, fast, ENTRIES, width or 256, depth or 6, HEADS, DROPOUT)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = (torch.randint(0, 256, (options.batch, 1, *shape)) / 127.5 - 1).contiguous(memory_format=layout)
    moved = lambda module: module.to(memory_format=layout)
    return networks.pixelcnn_pp_step(images, moved, fast, width or 40, depth or 2)


def places_of(options: argparse.Namespace) -> int:
    """Returns the number of places to sample."""
    return min(options.places or ROWS * options.side, options.side**2)


def makers(options: argparse.Namespace) -> Makers:
    """Returns name -> function that builds the contender."""
    transformer = options.network == 'transformer'
    loops = {'': False, ' unrolled': True} if transformer else {'': False}
    if options.task == 'sample':
        passes = {
            f'genlab recomputed{loop}': lambda unrolled=unrolled: sampling_steps(options, False, unrolled)
            for loop, unrolled in loops.items()
        }
        return {'genlab cached': lambda: sampling_steps(options, True), **passes}  # decoding is unrolled in any case
    ours: Makers = {
        f'genlab{loop}': lambda unrolled=unrolled: training_steps(options, unrolled) for loop, unrolled in loops.items()
    }
    layouts = (False,) if transformer else (False, True)  # of images; tokens have none
    build = lambda last, compiled: torch_steps(options, last, compiled)
    return ours | contest.modes(build, options.device, layouts)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parses the arguments of the command, sys.argv if they are None."""
    parser = contest.parser(__doc__, rounds=4)
    parser.add_argument('--task', choices=NETWORKS, default='sample')
    parser.add_argument('--network', choices=SIDES, default='transformer')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--side', type=int, default=0, help='of a grid; 0: the size above')
    parser.add_argument('--places', type=int, default=0, help=f'places to sample; 0: {ROWS} rows')
    parser.add_argument('--width', type=int, default=0, help='of the network; 0: its own')
    parser.add_argument('--depth', type=int, default=0, help='layers, or blocks per level; 0: the number above')
    options = contest.parse(parser, arguments)
    if options.network not in NETWORKS[options.task]:
        parser.error(f'--task={options.task} is for --network={" or ".join(NETWORKS[options.task])}')
    options.side = options.side or SIDES[options.network]
    return options


def main() -> None:
    options = parse()
    steps = places_of(options) if options.task == 'sample' else 1
    contest.compete('benchmarks.autoregressive', makers(options), options, options.batch, steps=steps)


if __name__ == '__main__':
    main()
