"""Times a training step of a dense VAE, 784-400-20 and back, Bernoulli, batch 128, Adam, against the same in PyTorch.

Both sides start from bytes, binarise them anew, and draw the latents' noise. The contenders take turns in one process, so that
a busy machine slows them alike; a turn is `--steps` steps. genlab runs as its loop does, with one step in a call and with
several. PyTorch runs eager and compiled, with its fused Adam and with the usual one, and the fastest counts.

    python -m benchmarks.vae --rounds=15
"""

import argparse
import pathlib

from benchmarks import contest

PIXELS, HIDDEN, LATENTS, RATE = 784, 400, 20, 1e-3


def genlab_steps(batch: int, steps: int, per_call: int):
    """`steps` steps of the experiment as the loop calls it, a function that waits for its result."""
    import jax
    import numpy as np

    from genlab import data, experiment
    from genlab.main import read
    from genlab.run.platform import set_up_jax
    from genlab.training import parallel, program, totals

    set_up_jax()
    config = read(str(pathlib.Path(__file__).parents[1] / 'configs/vae.py') + ':mnist')
    config.data.update(batch_size=batch, resident=False)
    config.model.update(features=(HIDDEN,), latent_size=LATENTS)
    config.average, config.train.steps_per_call = {}, per_call  # PyTorch's side keeps no average either
    placement = parallel.place(config.placement)
    (dense,) = program.programs(config, experiment.load(config.experiment), placement, data.declared)
    state = parallel.initial(placement, program.make_init(dense))
    sums = parallel.replicate(placement, totals.zero(program.metric_names(dense, placement.axis, state)))
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


def torch_steps(batch: int, steps: int, compiled: bool, fused: bool):
    """The step as PyTorch's own VAE example writes it, with logits and noise of its own."""
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
    """How to make each contender."""
    made = {
        f'genlab, {per_call} a call': lambda per_call=per_call: genlab_steps(batch, steps, per_call)
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
    parser.add_argument('--steps', type=int, default=50, help='in a turn')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--only', default='', help='contenders whose names begin so')
    options = parser.parse_args()
    contest.keep_freed_memory('benchmarks.vae')
    ready = contest.contenders(makers(options.batch, options.steps), options.only)
    contest.report(contest.measure(ready, options.rounds), options.batch, options.steps)


if __name__ == '__main__':
    main()
