"""Times steps of diffusion models on 32x32x3 images in float32 against the same networks in PyTorch.

`--network=unet` is the U-Net of DDPM for CIFAR-10 (35.7 million parameters, dropout 0.1). `--network=dit` is DiT-S/4
(33 million parameters) with ten classes. `--step=train` draws times, noise and dropout. It trains on the squared error
of the noise with Adam(2e-4). `--step=sample` is one network evaluation and the DDIM update. Each
contender runs in processes of its own. The result is for the fastest mode of PyTorch.

    python -m benchmarks.diffusion --network=unet --step=train --rounds=15
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from benchmarks import contest

SHAPE, CLASSES, RATE, TIMES = (32, 32, 3), 10, 2e-4, 1000
TRANSFORMER = {'patch': 4, 'width': 384, 'depth': 12, 'heads': 6, 'classes': CLASSES}
NOISY, LESS_NOISY = 500, 480  # times before and after a sampling step


def signal_and_noise() -> tuple[Any, Any]:
    """Returns alpha_t and sigma_t of the linear schedule of DDPM, float32 [1000] each."""
    import numpy as np

    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, TIMES))
    return np.sqrt(kept).astype(np.float32), np.sqrt(1 - kept).astype(np.float32)


def genlab_network(name: str) -> Any:
    """Returns the Flax module, 'unet' or 'dit'."""
    if name == 'dit':
        from genlab.networks.diffusion.dit import DiT

        return DiT(channels=3, unrolled=True, **TRANSFORMER)
    from genlab.networks.diffusion.unet import UNet

    return UNet(channels=3)


def genlab_step(name: str, step: str, batch: int) -> Callable[[], None]:
    """Compiles a step; returns a function that updates its state and waits for the result.

    Args:
      name: 'unet' or 'dit'.
      step: 'train' or 'sample'.
      batch: images per step.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from genlab.run.platform import set_up_jax

    set_up_jax()
    network, adam, (alpha, sigma) = genlab_network(name), optax.adam(RATE), map(jnp.asarray, signal_and_noise())
    x, labels = jax.random.normal(jax.random.key(0), (batch, *SHAPE)), jnp.arange(batch) % CLASSES
    condition = {'labels': labels} if name == 'dit' else {}
    constants = dict(jax.jit(lambda key: network.init(key, x, jnp.ones(batch), False, **condition))(jax.random.key(0)))
    params = constants.pop('params')

    def evaluate(params, x, times, train, keys=None):
        variables = {'params': params, **constants}
        return network.apply(variables, x, times.astype(jnp.float32), train, keys=keys, **condition)

    def train(state, key):
        params, moments = state
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
        times = jax.vmap(lambda key: jax.random.randint(key, (), 0, TIMES))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, SHAPE))(keys)
        noisy = alpha[times][:, None, None, None] * x + sigma[times][:, None, None, None] * noise
        error = lambda params: jnp.square(evaluate(params, noisy, times, True, keys) - noise).mean()
        updates, moments = adam.update(jax.grad(error)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    def sample(state, key):
        params, x = state
        noise = evaluate(params, x, jnp.full(batch, NOISY), False)
        image = (x - sigma[NOISY] * noise) / alpha[NOISY]
        return params, alpha[LESS_NOISY] * image + sigma[LESS_NOISY] * noise

    state, key, number = (params, adam.init(params) if step == 'train' else x), jax.random.key(1), 0
    started = time.perf_counter()
    compiled = jax.jit({'train': train, 'sample': sample}[step], donate_argnums=0).lower(state, key).compile()
    flops = compiled.cost_analysis()['flops']
    print(f'genlab: {flops / 1e9:.0f} GFLOP per step, compiled in {time.perf_counter() - started:.1f} s')

    def run():
        nonlocal state, number
        number += 1
        state = jax.block_until_ready(compiled(state, jax.random.fold_in(key, number)))

    return run


def torch_network(name: str) -> Any:
    """Returns the PyTorch module, 'unet' or 'dit'."""
    from benchmarks import torch_networks

    return torch_networks.DiT(3, SHAPE[0], **TRANSFORMER) if name == 'dit' else torch_networks.UNet(3, SHAPE[0])


def torch_step(name: str, step: str, batch: int, channels_last: bool, compiled: bool) -> Callable[[], None]:
    """Builds the step in the usual style of PyTorch, with the fused Adam.

    Args:
      name: 'unet' or 'dit'.
      step: 'train' or 'sample'.
      batch: images per step.
      channels_last: whether to use that memory format.
      compiled: whether to use torch.compile.
    """
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = torch_network(name).to(memory_format=layout)
    adam = torch.optim.Adam(network.parameters(), RATE, fused=True)
    network.train(step == 'train')
    alpha, sigma = map(torch.from_numpy, signal_and_noise())
    x = torch.randn(batch, SHAPE[2], *SHAPE[:2]).contiguous(memory_format=layout)
    condition = (torch.arange(batch) % CLASSES,) if name == 'dit' else ()
    evaluate = torch.compile(network, dynamic=False) if compiled else network

    def train():
        times, noise = torch.randint(0, TIMES, (batch,)), torch.randn_like(x)
        noisy = alpha[times][:, None, None, None] * x + sigma[times][:, None, None, None] * noise
        adam.zero_grad()
        torch.nn.functional.mse_loss(evaluate(noisy, times.float(), *condition), noise).backward()
        adam.step()

    @torch.inference_mode()
    def sample():
        nonlocal x
        noise = evaluate(x, torch.full((batch,), float(NOISY)), *condition)
        image = (x - sigma[NOISY] * noise) / alpha[NOISY]
        x = alpha[LESS_NOISY] * image + sigma[LESS_NOISY] * noise

    return {'train': train, 'sample': sample}[step]


def makers(name: str, step: str, batch: int) -> dict:
    """Returns name -> function that builds the contender. The memory format matters for convolutions only.

    Args:
      name: 'unet' or 'dit'.
      step: 'train' or 'sample'.
      batch: images per step.
    """
    made: dict[str, Callable] = {'genlab': lambda: genlab_step(name, step, batch)}
    for compiled in (False, True):
        for last in (False, True) if name == 'unet' else (False,):
            contender = f'torch {"compile" if compiled else "eager"}{" channels_last" if last else ""}'
            made[contender] = lambda last=last, compiled=compiled: torch_step(name, step, batch, last, compiled)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=['unet', 'dit'], default='unet')
    parser.add_argument('--step', choices=['train', 'sample'], default='train')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--only', default='', help='prefix of the names of contenders')
    options = parser.parse_args()
    made = makers(options.network, options.step, options.batch)
    contest.compete('benchmarks.diffusion', made, options.rounds, options.batch, only=options.only)


if __name__ == '__main__':
    main()
