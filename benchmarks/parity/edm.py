"""Parity with DDPM++ and NCSN++ of NVlabs/edm, with samples of its Heun solver, and with a step of its training.

python -m benchmarks.parity.edm --source=FOLDER [--full] [--certify]
"""

import pickle
import sys
from unittest import mock

import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks.parity import compare
from configs import edm
from genlab import published
from genlab.diffusion.model import make_model
from genlab.published import mapping, torch_file

PLUS = dict(channel_mult=[2, 2, 2], model_type='SongUNet', augment_dim=9, img_channels=3, img_resolution=32)
NCSN = dict(embedding_type='fourier', encoder_type='residual', channel_mult_noise=2, resample_filter=[1, 3, 3, 1])
TINY = dict(model_channels=4, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[4], img_channels=1, img_resolution=8)


def compare_step(
    certificate: compare.Certificate, title: str, config: ConfigDict, peer: torch.nn.Module, x: np.ndarray
) -> None:
    """Compares one step of Adam on the peer's own loss, with the same images, noise and levels; x: [B, H, W, C].

    There is neither augmentation nor dropout, and the learning rate is at its peak.
    """
    from training.loss import EDMLoss

    variables = compare.converted(certificate, config, 'ema', compare.tensors_of(peer), counted=False)
    levels, epsilon, found = compare.denoiser_stepped(config, variables, x)
    loss, moved, rates = EDMLoss(), compare.Moved(peer), config.optimizer.denoiser
    drawn = torch.from_numpy((np.log(levels) - loss.P_mean) / loss.P_std).reshape(-1, 1, 1, 1)
    optimizer = torch.optim.Adam(peer.parameters(), rates.learning_rate, (rates.b1, rates.b2), rates.epsilon)
    with (
        compare.widened(),
        mock.patch.object(torch, 'randn', lambda *_, **__: drawn),
        mock.patch.object(torch, 'randn_like', lambda *_: compare.double(epsilon)),
    ):
        loss(peer, compare.double(x)).sum().mul(1 / len(x)).backward()  # as in its training loop
    optimizer.step()
    table = compare.table_of(certificate, config, 'ema')
    compare.compare_update(certificate, title, table, moved.changes(), found)


def main() -> None:
    """Compares both networks, and reads a pickle of the first one without executing its source text."""
    options = compare.arguments(__doc__ or '', 'a checkout of NVlabs/edm')
    sys.path.append(str(options.source))
    from training.networks import EDMPrecond

    size = "CIFAR-10's configurations" if options.full else 'width 4, 8x8'
    certificate = compare.Certificate('edm', options, size)
    solver = compare.definitions(options.source / 'generate.py', 'edm_sampler', torch=torch, np=np)['edm_sampler']
    for title, variant, changes in (('ddpmpp', 'cifar10', {}), ('ncsnpp', 'cifar10_ncsnpp', NCSN)):
        config = edm.get_config(variant)
        config.data.update(source='digits', name='')
        settings = dict(dropout=0) | PLUS | changes | ({} if options.full else TINY)
        config.data.update(resolution=settings['img_resolution'], channels=settings['img_channels'])
        if not options.full:
            config.model.network.update(width=4, multipliers=(1, 2), blocks=1, attention=(4,))
            config.losses.denoiser.edm = float(config.data.resolution**2 * config.data.channels)  # as in the full size
        precond = EDMPrecond(**settings)
        compare.randomize(precond)
        content = pickle.dumps({'ema': precond, 'dataset_kwargs': {'path': 'x'}})
        path = (options.fixture or options.source) / f'edm-{title}.pkl'
        path.write_bytes(content)
        tree = torch_file.read_modules(path)
        path.unlink()
        record = published.record('edm')
        mapping.check(record.complete(config), record.translate(tree['ema']['init']), 'EDMPrecond')
        tensors = tree['ema']['state']
        variables = compare.converted(certificate, config, 'ema', tensors)['denoiser']
        shape = config.data.resolution, config.data.resolution, config.data.channels
        network, levels = make_model(config, shape).network, np.array([-1.1, 0.6], np.float32)
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        output = compare.compare(
            certificate,
            title,
            lambda x, peer=precond.model, levels=levels: peer(x, torch.from_numpy(levels), None, torch.zeros(2, 9)),
            lambda x, network=network, variables=variables, levels=levels: network.apply(variables, x, levels, False),
            x,
        )
        latents = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        with torch.no_grad():
            expected = solver(precond, latents, num_steps=4).numpy().transpose(0, 2, 3, 1)
        config.sample.update(steps=4)
        found = compare.sampled(config, variables, 80 * x)
        certificate.add(f"{title}, four steps of Heun's method", trajectory=compare.difference(found, expected))
        if options.fixture and title == 'ddpmpp':  # all fixtures together are small
            inputs = {'x': x, 'level': levels}
            compare.write_fixture(options.fixture / f'edm-{title}.npz', tensors, inputs, output)
        compare_step(certificate, f'{title}, Adam', config, precond, np.tanh(x))
    certificate.write()


if __name__ == '__main__':
    main()
