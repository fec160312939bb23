"""Parity with the UNetModel of openai/improved-diffusion, with samples of its chain, and with a step of its training.

python -m benchmarks.parity.improved_diffusion --source=FOLDER [--full] [--certify]
"""

import sys

import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks.parity import compare
from configs import improved_ddpm
from genlab.choices import named
from genlab.diffusion.model import make_model


def compare_step(certificate: compare.Certificate, config: ConfigDict, peer: torch.nn.Module, x: np.ndarray) -> None:
    """Compares one step of Adam on the hybrid loss, with the same images, noise and times; x: [B, H, W, C]."""
    from improved_diffusion import script_util

    variables = compare.converted(certificate, config, 'unet', compare.tensors_of(peer), counted=False)
    times, epsilon, found = compare.denoiser_stepped(config, variables, x)
    chain = script_util.create_gaussian_diffusion(
        steps=4000, learn_sigma=True, noise_schedule='cosine', rescale_timesteps=True, rescale_learned_sigmas=True
    )
    steps, rates = torch.from_numpy(np.round(times * 4000).astype(int) - 1), config.optimizer.denoiser
    moved = compare.Moved(peer)
    optimizer = torch.optim.AdamW(peer.parameters(), rates.learning_rate, weight_decay=0.0)  # as in its training loop
    with compare.widened():
        chain.training_losses(peer, compare.double(x), steps, noise=compare.double(epsilon))['loss'].mean().backward()
    optimizer.step()
    table = compare.table_of(certificate, config, 'unet')
    compare.compare_update(certificate, 'improved DDPM, Adam', table, moved.changes(), found)


def main() -> None:
    """Compares the network and samples; times are fractions of 1000, as for its chains of 4,000 steps."""
    options = compare.arguments(__doc__ or '', 'a checkout of openai/improved-diffusion')
    sys.path.append(str(options.source))
    from improved_diffusion import script_util, unet

    config = improved_ddpm.get_config('cifar10')
    config.data.update(source='digits', name='', resolution=32, channels=3)
    settings = dict(width=128, multipliers=(1, 2, 2, 2), blocks=3, heads=4)
    if not options.full:
        config.data.update(resolution=8, channels=1)
        settings = dict(width=4, multipliers=(1, 2), blocks=1, heads=2, attention=(4,), groups=2)
        # 32 groups do not divide a tiny width
        unet.normalization = lambda channels: torch.nn.GroupNorm(2, channels)
    with config.unlocked():
        config.model.network.update(settings)
    network, side, channels = config.model.network, config.data.resolution, config.data.channels
    size = "CIFAR-10's configuration" if options.full else f'width {network.width}, {side}x{side}'
    certificate = compare.Certificate('improved_diffusion', options, size)
    peer = unet.UNetModel(
        in_channels=channels,
        model_channels=network.width,
        out_channels=2 * channels,
        num_res_blocks=network.blocks,
        attention_resolutions=tuple(side // attended for attended in network.attention),
        channel_mult=network.multipliers,
        num_heads=network.heads,
        use_scale_shift_norm=True,
    )
    tensors = compare.tensors_of(compare.randomize(peer))
    variables = compare.converted(certificate, config, 'unet', tensors)['denoiser']
    shape = side, side, channels
    ours, times = make_model(config, shape).network, np.array([7.25, 903.5], np.float32)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    output = compare.compare(
        certificate,
        'improved DDPM',
        lambda x: peer(x, torch.from_numpy(times)),
        lambda x: ours.apply(variables, x, times, False),
        x,
    )
    if options.fixture:
        path = options.fixture / 'improved_diffusion-unet.npz'
        compare.write_fixture(path, tensors, {'x': x, 'level': times}, output)
    chain = script_util.create_gaussian_diffusion(
        steps=4000, learn_sigma=True, noise_schedule='cosine', rescale_timesteps=True, timestep_respacing='4'
    )
    with torch.no_grad(), compare.noise_of(x):
        start = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        expected = chain.p_sample_loop(peer, start.shape, noise=start).numpy().transpose(0, 2, 3, 1)
    config.sample.update(grid=named('linspace'), steps=4)
    found = compare.sampled(config, variables, x)
    title = 'improved DDPM, four ancestral steps of learned variance'
    certificate.add(title, trajectory=compare.difference(found, expected))
    compare_step(certificate, config, peer, np.tanh(x))
    certificate.write()


if __name__ == '__main__':
    main()
