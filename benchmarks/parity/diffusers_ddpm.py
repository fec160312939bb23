"""Parity with the UNet2DModel of huggingface/diffusers, in the layout of google/ddpm-cifar10-32.

Samples of DDIM and one step of training are compared too, with the peer's schedulers.

python -m benchmarks.parity.diffusers_ddpm --source=FOLDER [--full] [--certify]
"""

import sys

import numpy as np
import torch
from ml_collections import ConfigDict
from torch.nn import functional

from benchmarks.parity import compare
from configs import ddpm
from genlab import published
from genlab.choices import named
from genlab.diffusion.model import make_model
from genlab.published import mapping

CIFAR10 = dict(
    sample_size=32,
    in_channels=3,
    out_channels=3,
    block_out_channels=(128, 256, 256, 256),
    layers_per_block=2,
    down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'),
    attention_head_dim=None,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
    norm_eps=1e-6,
    norm_num_groups=32,
)
TINY = dict(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    block_out_channels=(4, 8),
    layers_per_block=1,
    down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
    up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    norm_num_groups=2,
)


def compare_samples(certificate: compare.Certificate, config: ConfigDict, peer: torch.nn.Module, x: np.ndarray) -> None:
    """Compares four steps of DDIM from noise x [B, H, W, C].

    The first step divides by alpha = 0.006 and amplifies rounding, so both sides compute in float64.
    """
    from diffusers import DDIMScheduler

    variables = compare.converted(certificate, config, 'newer', compare.tensors_of(peer), counted=False)['denoiser']
    peer.double()
    samples = compare.double(x)
    with torch.no_grad(), compare.widened():
        scheduler = DDIMScheduler(1000, timestep_spacing='trailing')
        scheduler.set_timesteps(4)
        for time in scheduler.timesteps:
            samples = scheduler.step(peer(samples, time).sample, time, samples).prev_sample
    peer.float()
    config.sample.update(sampler=named('ddim', keep_epsilon=True), steps=4)
    with compare.float64(), compare.in_float64(config):
        found = compare.sampled(config, variables, x.astype(np.float64))
    error = compare.difference(found, samples.numpy().transpose(0, 2, 3, 1))
    certificate.add('DDPM, four steps of DDIM in float64', trajectory=error)


def compare_step(certificate: compare.Certificate, config: ConfigDict, peer: torch.nn.Module, x: np.ndarray) -> None:
    """Compares one step of Adam with clipped gradients, on the same images, noise and times; x: [B, H, W, C]."""
    from diffusers import DDPMScheduler

    variables = compare.converted(certificate, config, 'newer', compare.tensors_of(peer), counted=False)
    times, epsilon, found = compare.denoiser_stepped(config, variables, x)
    steps = torch.from_numpy(np.round(times * 1000).astype(int) - 1)
    moved, rates = compare.Moved(peer), config.optimizer.denoiser
    optimizer = torch.optim.Adam(peer.parameters(), rates.learning_rate, (rates.b1, rates.b2), rates.epsilon)
    noise = compare.double(epsilon)
    with compare.widened():
        seen = DDPMScheduler(1000).add_noise(compare.double(x), noise, steps)
        functional.mse_loss(peer(seen, steps).sample, noise).backward()
    torch.nn.utils.clip_grad_norm_(peer.parameters(), rates.clip)
    optimizer.step()
    table = compare.table_of(certificate, config, 'newer')
    compare.compare_update(certificate, 'DDPM, Adam', table, moved.changes(), found)


def main() -> None:
    """Compares the network, samples, and a step of training."""
    options = compare.arguments(__doc__ or '', 'the folder that holds the package diffusers')
    sys.path.append(str(options.source))
    import diffusers

    settings = CIFAR10 if options.full else CIFAR10 | TINY
    side, width = settings['sample_size'], settings['block_out_channels'][0]
    title = f'width {width}, {side}x{side}' + ("; google/ddpm-cifar10-32's configuration" if options.full else '')
    certificate = compare.Certificate('diffusers_ddpm', options, title, f'diffusers {diffusers.__version__}')
    config = ddpm.get_config('cifar10')
    config.model.network.dropout = 0.0
    config.data.update(source='digits', name='', resolution=side, channels=settings['in_channels'])
    if not options.full:
        with config.unlocked():
            config.model.network.update(width=4, multipliers=(1, 2), blocks=1, attention=(4,), groups=2)
    peer = compare.randomize(diffusers.UNet2DModel(**settings))
    record = published.record('diffusers_ddpm')
    mapping.check(record.complete(config), record.translate(dict(peer.config)), 'UNet2DModel')
    tensors = compare.tensors_of(peer)
    variables = compare.converted(certificate, config, 'newer', tensors)['denoiser']
    shape = config.data.resolution, config.data.resolution, config.data.channels
    network, times = make_model(config, shape).network, np.array([7.0, 903.0], np.float32)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    output = compare.compare(
        certificate,
        'DDPM',
        lambda x: peer(x, torch.from_numpy(times)).sample,
        lambda x: network.apply(variables, x, times, False),
        x,
    )
    if options.fixture:
        compare.write_fixture(options.fixture / 'diffusers_ddpm-newer.npz', tensors, {'x': x, 'level': times}, output)
    compare_samples(certificate, config, peer, x)
    compare_step(certificate, config, peer, np.tanh(x))
    certificate.write()


if __name__ == '__main__':
    main()
