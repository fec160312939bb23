"""Times training steps of GANs at 32x32 in colour, in float32, against the same networks in PyTorch.

`--network=stylegan2` has base 4096, a mapping of 8 layers, mixed styles, R1 in every 16th step and path lengths in
every 4th; a time is the mean of 16 steps. `--network=progan` has 128 channels, all levels grown, the gradient penalty
and the drift term. `--network=dcgan` is DCGAN of width 64. Moving averages are left out. torch.compile does not
differentiate twice: passes that need it run eager in every mode. Each contender runs in processes of its own. The
result is for the fastest mode of PyTorch.

    python -m benchmarks.gans --network=stylegan2 --batch=8 --rounds=8
    python -m benchmarks.gans --network=stylegan2 --batch=32 --device=gpu --repeats=1
"""

import pathlib
from collections.abc import Callable

from benchmarks import contest

SIDE, CHANNELS = 32, 3
PERIOD = {'stylegan2': 16, 'progan': 1, 'dcgan': 1}  # steps after which the lazy terms repeat


def config_of(network: str, batch: int):
    """Returns the config of a network."""
    from genlab.choices import named
    from genlab.config import lazy
    from genlab.main import read

    config = read(str(pathlib.Path(__file__).parents[1] / f'configs/{network}.py'))
    config.data.update(batch_size=batch, channels=CHANNELS, resolution=SIDE, flip=False)
    config.average, config.phases = {}, ()
    if network == 'stylegan2':
        config.model.networks = named('stylegan2', base=4096)
        config.model.update(latent_size=512, mixing=0.9, path_decay=0.01)
        config.losses.generator.path_length = lazy(2.0, 4)
        config.train.steps = 16
    elif network == 'progan':
        config.model.networks = named('progressive', resolution=SIDE, level=3, base=128 * SIDE, most=128)
        config.model.latent_size = 512
    else:
        config.model.networks.width = 64
    return config


def torch_steps(network: str, batch: int, channels_last: bool, compiled: bool) -> Callable[[], None]:
    """Builds the same in PyTorch. Both turns use the same fakes, as usual in fast code."""
    import torch

    from benchmarks import torch_gans as networks

    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.tanh(torch.randn(batch, CHANNELS, SIDE, SIDE)).contiguous(memory_format=layout)
    fast = (lambda module: torch.compile(module, dynamic=False)) if compiled else (lambda module: module)
    moved = lambda module: module.to(memory_format=layout)
    if network == 'stylegan2':
        return networks.stylegan2_steps(images, moved, fast, [512, 512, 256, 128])
    if network == 'progan':
        return networks.progan_step(images, moved, fast, [128] * 4)
    return networks.dcgan_step(images, moved, fast)


def makers(network: str, batch: int, device: str) -> dict[str, Callable]:
    """Returns name -> function that builds the contender."""
    theirs = contest.modes(lambda last, compiled: torch_steps(network, batch, last, compiled), device)
    return {'genlab': lambda: contest.loop_steps(config_of(network, batch), PERIOD[network]), **theirs}


def main() -> None:
    parser = contest.parser(__doc__, rounds=8)
    parser.add_argument('--network', choices=['stylegan2', 'progan', 'dcgan'], default='stylegan2')
    parser.add_argument('--batch', type=int, default=16)
    options = contest.parse(parser)
    made = makers(options.network, options.batch, options.device)
    contest.compete('benchmarks.gans', made, options, options.batch, steps=PERIOD[options.network])


if __name__ == '__main__':
    main()
