"""Times steps of diffusion models on 32x32x3 images in float32 against the same networks in PyTorch.

`--network=unet` is the U-Net of DDPM for CIFAR-10 (35.7 million parameters, dropout 0.1). `--network=dit` is DiT-S/4
(33 million parameters) with ten classes. `--step=train` draws times, noise and dropout. It trains on the squared error
of the noise with Adam(2e-4). `--step=sample` is one network evaluation and the DDIM update. Each
contender runs in processes of its own. The result is for the fastest mode of PyTorch.

    python -m benchmarks.diffusion --network=unet --step=train --rounds=15
    python -m benchmarks.diffusion --network=unet --step=train --batch=128 --device=gpu
"""

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


def genlab_step(name: str, step: str, batch: int) -> Callable[[], Any]:
    """Compiles a step; returns a function that starts it and returns the next state, to wait for.

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
    compiled = jax.jit({'train': train, 'sample': sample}[step], donate_argnums=0).lower(state, key).compile()

    def run():
        nonlocal state, number
        number += 1
        state = compiled(state, jax.random.fold_in(key, number))
        return state

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
    adam = contest.adam(network.parameters(), RATE)
    network.train(step == 'train')
    x = torch.randn(batch, SHAPE[2], *SHAPE[:2]).contiguous(memory_format=layout)
    alpha, sigma = (torch.from_numpy(one).to(x.device) for one in signal_and_noise())
    condition = (torch.arange(batch) % CLASSES,) if name == 'dit' else ()
    evaluate = torch.compile(network, dynamic=False) if compiled else network

    def train():
        times, noise = torch.randint(0, TIMES, (batch,), device=x.device), torch.randn_like(x)
        noisy = alpha[times][:, None, None, None] * x + sigma[times][:, None, None, None] * noise
        adam.zero_grad()
        torch.nn.functional.mse_loss(evaluate(noisy, times.float(), *condition), noise).backward()
        adam.step()

    @torch.inference_mode()
    def sample():
        noise = evaluate(x, torch.full((batch,), float(NOISY), device=x.device), *condition)
        image = (x - sigma[NOISY] * noise) / alpha[NOISY]
        x.copy_(alpha[LESS_NOISY] * image + sigma[LESS_NOISY] * noise)  # in place: a CUDA graph repeats addresses

    return {'train': train, 'sample': sample}[step]


def makers(name: str, step: str, batch: int, device: str) -> dict[str, Callable]:
    """Returns name -> function that builds the contender. The memory format matters for convolutions only.

    Args:
      name: 'unet' or 'dit'.
      step: 'train' or 'sample'.
      batch: images per step.
      device: 'cpu' or 'gpu'.
    """
    layouts = (False, True) if name == 'unet' else (False,)
    theirs = contest.modes(lambda last, compiled: torch_step(name, step, batch, last, compiled), device, layouts)
    return {'genlab': lambda: genlab_step(name, step, batch), **theirs}


def main() -> None:
    parser = contest.parser(__doc__, rounds=15)
    parser.add_argument('--network', choices=['unet', 'dit'], default='unet')
    parser.add_argument('--step', choices=['train', 'sample'], default='train')
    parser.add_argument('--batch', type=int, default=16)
    options = contest.parse(parser)
    made = makers(options.network, options.step, options.batch, options.device)
    contest.compete('benchmarks.diffusion', made, options, options.batch)


if __name__ == '__main__':
    main()
