"""Times a training step of a dense Bernoulli VAE against the same network in PyTorch.

The layers have 784, 400 and 20 units, mirrored in the decoder; the batch is 128 and the optimizer Adam. Both sides
start from bytes, resample the binarisation in each step, and draw the noise of the latents. The contenders run
each in processes of its own, `--steps` steps per round. genlab runs as in its loop, with one step per call and with
several. PyTorch runs eager and compiled, with the fused and the unfused Adam. The result is for its fastest mode.

    python -m benchmarks.vae --rounds=15
    python -m benchmarks.vae --device=gpu --repeats=4
"""

import pathlib
from collections.abc import Callable

from benchmarks import contest

PIXELS, HIDDEN, LATENTS, RATE = 784, 400, 20, 1e-3


def config_of(batch: int, per_call: int):
    """Returns the config of the dense VAE. batch: images per step; per_call: steps per compiled call."""
    from genlab.main import read

    config = read(str(pathlib.Path(__file__).parents[1] / 'configs/vae.py') + ':mnist')
    config.data.update(batch_size=batch, resident=False)
    config.model.update(features=(HIDDEN,), latent_size=LATENTS)
    config.average, config.train.steps_per_call = {}, per_call  # PyTorch keeps no average either
    return config


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
    adam = contest.adam([*encoder.parameters(), *decoder.parameters()], RATE, fused=fused)
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


def makers(batch: int, steps: int, device: str) -> dict[str, Callable]:
    """Returns name -> function that builds the contender.

    Args:
      batch: images per step.
      steps: per run.
      device: 'cpu' or 'gpu', where Adam is always fused.
    """
    made: dict[str, Callable] = {
        f'genlab, {per_call} per call': lambda per_call=per_call: contest.loop_steps(
            config_of(batch, per_call), steps // per_call
        )
        for per_call in (1, steps)
    }
    for fused in (False, True) if device == 'cpu' else (True,):
        build = lambda last, compiled, fused=fused: torch_steps(batch, steps, compiled, fused)
        for name, make in contest.modes(build, device, layouts=(False,)).items():
            made[name + (' fused Adam' if fused else '')] = make
    return made


def main() -> None:
    parser = contest.parser(__doc__, rounds=15)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--steps', type=int, default=50, help='steps per round')
    options = contest.parse(parser)
    made = makers(options.batch, options.steps, options.device)
    contest.compete('benchmarks.vae', made, options, options.batch, steps=options.steps)


if __name__ == '__main__':
    main()
