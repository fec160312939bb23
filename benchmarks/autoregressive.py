"""Times autoregressive networks in float32.

`--network=pixelcnn_pp`: a training step on 28x28 grey images, against the same network in PyTorch: 2 blocks per level,
40 filters, 10 mixtures, dropout and Adam. `--network=gated_pixelcnn`: sampling of 28x28 binary pixels with 64 channels
and 12 layers, from a cache against a full pass per pixel. A time is the mean per pixel of the batch over `--places`
pixels. Each contender runs in processes of its own.

    python -m benchmarks.autoregressive --network=gated_pixelcnn --batch=16 --rounds=4
    python -m benchmarks.autoregressive --network=pixelcnn_pp --batch=16 --rounds=8
"""

import argparse
import itertools
from collections.abc import Callable

from benchmarks import contest

SIDE = 28
NETWORKS = ('gated_pixelcnn', 'pixelcnn_pp')
Makers = dict[str, Callable[[], Callable[[], None]]]


def sampling_network(name: str, side: int):
    """Returns a network over binary pixels, which has `start` and `advance`. Add a transformer here."""
    from genlab.networks.autoregressive.gated_pixelcnn import GatedPixelCNN

    return {'gated_pixelcnn': lambda: GatedPixelCNN((side, side), 2, width=64)}[name]()


def sampling_steps(name: str, batch: int, side: int, places: int, cached: bool) -> Callable[[], None]:
    """Compiles sampling of the first pixels; returns a function that runs it and waits.

    Args:
      name: network.
      batch: images.
      side: of an image.
      places: pixels to draw per image.
      cached: whether each pixel uses the cache, or the whole network.
    """
    import jax
    import jax.numpy as jnp

    from genlab.run.platform import set_up_jax

    set_up_jax()
    network = sampling_network(name, side)
    empty = jnp.zeros((batch, side, side), jnp.int32)
    variables = jax.jit(lambda key: network.init(key, empty, False))(jax.random.key(0))
    draw = lambda key, place, logits: jax.random.categorical(jax.random.fold_in(key, place), logits)

    @jax.jit
    def from_cache(variables, key):
        def step(carry, place):
            cache, previous = carry
            logits, cache = network.apply(variables, cache, previous, place, method='advance')
            value = draw(key, place, logits)
            return (cache, value), value

        cache = network.apply(variables, batch, method='start')
        return jax.lax.scan(step, (cache, empty[:, 0, 0]), jnp.arange(places))[1]

    @jax.jit
    def from_nothing(variables, key):
        def step(images, place):
            logits = network.apply(variables, images, False)[:, place // side, place % side]
            return images.at[:, place // side, place % side].set(draw(key, place, logits)), None

        return jax.lax.scan(step, empty, jnp.arange(places))[0]

    sample = from_cache if cached else from_nothing
    return lambda: jax.block_until_ready(sample(variables, jax.random.key(1)))


def training_steps(batch: int, side: int, width: int, blocks: int) -> Callable[[], None]:
    """Compiles a training step of PixelCNN++; returns a function that runs it and waits."""
    import jax
    import jax.numpy as jnp
    import optax

    from genlab.losses.mixtures import mixture_of_logistics
    from genlab.networks.autoregressive.pixelcnn_pp import PixelCNNPP
    from genlab.run.platform import set_up_jax

    set_up_jax()
    network, optimizer = PixelCNNPP((side, side), 1, width=width, blocks=blocks), optax.adam(2e-4)
    images = jax.random.randint(jax.random.key(0), (batch, side, side, 1), 0, 256) / 127.5 - 1

    @jax.jit
    def initial(key):
        params = network.init(key, images, False)
        return params, optimizer.init(params), 0

    def step(state, images):
        params, moments, number = state
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), number), batch)
        loss = lambda params: jnp.mean(mixture_of_logistics(images, network.apply(params, images, True, keys)))
        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments, number + 1

    state = initial(jax.random.key(0))
    compiled = jax.jit(step, donate_argnums=0).lower(state, images).compile()

    def run():
        nonlocal state
        state = jax.block_until_ready(compiled(state, images))

    return run


def torch_steps(
    batch: int, side: int, width: int, blocks: int, channels_last: bool, compiled: bool
) -> Callable[[], None]:
    """Builds the same training step in PyTorch."""
    import torch

    from benchmarks import torch_autoregressive as networks

    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = (torch.randint(0, 256, (batch, 1, side, side)) / 127.5 - 1).contiguous(memory_format=layout)
    fast = (lambda module: torch.compile(module, dynamic=False)) if compiled else (lambda module: module)
    return networks.pixelcnn_pp_step(images, lambda module: module.to(memory_format=layout), fast, width, blocks)


def makers(options: argparse.Namespace) -> Makers:
    """Returns name -> function that builds the contender."""
    batch, side = options.batch, options.side
    if options.network != 'pixelcnn_pp':
        places = min(options.places, side * side)
        return {
            f'genlab {name}': lambda cached=cached: sampling_steps(options.network, batch, side, places, cached)
            for name, cached in (('cached', True), ('recomputed', False))
        }
    sizes = (batch, side, options.width, options.blocks)
    made: Makers = {'genlab': lambda: training_steps(*sizes)}
    for compiled, last in itertools.product((False, True), (False, True)):
        name = f'torch {"compile" if compiled else "eager"}{" channels_last" if last else ""}'
        made[name] = lambda last=last, compiled=compiled: torch_steps(*sizes, last, compiled)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=NETWORKS, default='gated_pixelcnn')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--rounds', type=int, default=4)
    parser.add_argument('--side', type=int, default=SIDE)
    parser.add_argument('--places', type=int, default=4 * SIDE, help='pixels to sample; whole rows, to time each alike')
    parser.add_argument('--width', type=int, default=40, help='filters of PixelCNN++')
    parser.add_argument('--blocks', type=int, default=2, help='blocks per level of PixelCNN++')
    parser.add_argument('--only', default='', help='prefix of the names of contenders')
    options = parser.parse_args()
    steps = 1 if options.network == 'pixelcnn_pp' else min(options.places, options.side**2)
    contest.compete(
        'benchmarks.autoregressive', makers(options), options.rounds, options.batch, steps=steps, only=options.only
    )


if __name__ == '__main__':
    main()
