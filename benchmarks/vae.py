"""Times a training step of a dense Bernoulli VAE against the same network in PyTorch.

The layers have 784, 400 and 20 units, mirrored in the decoder; the batch is 128 and the optimizer Adam. Both sides
start from bytes, resample the binarisation in each step, and draw the noise of the latents. The contenders run
each in processes of its own, `--steps` steps per round. genlab runs as in its loop, with one step per call and with
several. PyTorch runs eager and compiled, with the fused and the unfused Adam. The result is for its fastest mode.

    python -m benchmarks.vae --rounds=15
"""

import argparse
import pathlib
from collections.abc import Callable

from benchmarks import contest

PIXELS, HIDDEN, LATENTS, RATE = 784, 400, 20, 1e-3


def genlab_steps(batch: int, steps: int, per_call: int) -> Callable[[], None]:
    """Compiles the training step as in the loop; returns a function that runs it and waits for the result.

    Args:
      batch: images per step.
      steps: per run of the function.
      per_call: steps per call of the compiled function.
    """
    import jax
    import numpy as np

    from genlab import experiment
    from genlab.main import read
    from genlab.run.platform import set_up_jax
    from genlab.training import parallel, program, totals

    set_up_jax()
    config = read(str(pathlib.Path(__file__).parents[1] / 'configs/vae.py') + ':mnist')
    config.data.update(batch_size=batch, resident=False)
    config.model.update(features=(HIDDEN,), latent_size=LATENTS)
    config.average, config.train.steps_per_call = {}, per_call  # PyTorch keeps no average either
    placement = parallel.place(config.placement)
    (dense,) = program.programs(config, experiment.load(config.experiment), placement, declared=True)
    state = parallel.initial(placement, program.make_init(dense))
    sums = parallel.replicate(placement, totals.zero(program.metric_names(dense, placement, state)))
    constants = parallel.replicate(placement, program.make_constants(dense))
    images = np.random.default_rng(0).integers(0, 256, (per_call, batch, 28, 28, 1), np.uint8)
    rows = {**program.load(dense, 0, per_call, slice(None)), 'image': images}
    carry, batches = (state, sums), placement.put(program.fold(dense, rows))
    compiled = placement.compile(program.make_call(dense), carry).lower(carry, batches, constants).compile()

    def run():
        nonlocal carry
        for _ in range(steps // per_call):
            carry = compiled(carry, batches, constants)
        jax.block_until_ready(carry)

    return run


def torch_steps(batch: int, steps: int, compiled: bool, fused: bool) -> Callable[[], None]:
    """Builds the training step of PyTorch's VAE example, with a loss on logits.

    Args:
      batch: images per step.
      steps: per run of the function.
      compiled: whether to use torch.compile.
      fused: whether to use the fused Adam.
    """
    import torch
    from torch import nn

    encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENTS))
    decoder = nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS))
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], RATE, fused=fused)
    images = torch.randint(0, 256, (steps, batch, PIXELS), dtype=torch.uint8)

    def loss(levels):
        bits = torch.bernoulli(levels / 255)
        mean, log_variance = encoder(2 * bits - 1).chunk(2, 1)
        logits = decoder(mean + torch.exp(log_variance / 2) * torch.randn_like(mean))
        reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, bits, reduction='sum')
        kl = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
        return (reconstruction + kl) / len(levels)

    objective = torch.compile(loss, dynamic=False) if compiled else loss

    def run():
        for levels in images:
            adam.zero_grad()
            objective(levels).backward()
            adam.step()

    return run


def makers(batch: int, steps: int) -> dict:
    """Returns name -> function that builds the contender. batch: images per step; steps: per round."""
    made: dict[str, Callable] = {
        f'genlab, {per_call} per call': lambda per_call=per_call: genlab_steps(batch, steps, per_call)
        for per_call in (1, steps)
    }
    for compiled in (False, True):
        for fused in (False, True):
            name = f'torch {"compile" if compiled else "eager"}{" fused Adam" if fused else ""}'
            made[name] = lambda compiled=compiled, fused=fused: torch_steps(batch, steps, compiled, fused)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--steps', type=int, default=50, help='steps per round')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--only', default='', help='prefix of the names of contenders')
    options = parser.parse_args()
    made = makers(options.batch, options.steps)
    contest.compete('benchmarks.vae', made, options.rounds, options.batch, steps=options.steps, only=options.only)


if __name__ == '__main__':
    main()
