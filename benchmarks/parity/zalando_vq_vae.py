"""Parity with the VQ-VAE of zalandoresearch/pytorch-vq-vae.

python -m benchmarks.parity.zalando_vq_vae --source=FOLDER [--full] [--certify]
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks.parity import compare
from configs import vq_vae
from genlab.models import quantized


def peer_classes(text: str) -> dict[str, Any]:
    """Returns the classes of the notebook."""
    names: dict[str, Any] = {'torch': torch, 'nn': torch.nn, 'F': torch.nn.functional}
    for cell in json.loads(text)['cells']:
        code = ''.join(cell['source'])
        if cell['cell_type'] == 'code' and code.startswith('class '):
            exec(code, names)
    return names


def compare_step(
    certificate: compare.Certificate,
    config: ConfigDict,
    peer: torch.nn.Module,
    variables: Mapping[str, Any],
    draw: np.random.Generator,
) -> None:
    """Compares one step of Adam on the notebook's loss. Moving averages of the codebook are no parameters.

    Layers beside the images are left out: their weights differ by a factor of two, because images do.
    """
    x = np.tanh(draw.standard_normal((4, config.data.resolution, config.data.resolution, 3)))
    config.model.variance, rates = 0.25, config.optimizer.vae
    found = compare.images_stepped(config, variables, {'x': x})
    moved = compare.Moved(peer)
    optimizer = torch.optim.Adam(peer.parameters(), rates.learning_rate, (rates.b1, rates.b2), rates.epsilon)
    with compare.widened():
        images = compare.double(x) / 2
        loss, output, _ = peer(images)
        (torch.nn.functional.mse_loss(output, images) / (0.25 / 4) + loss).backward()
    optimizer.step()
    table = compare.table_of(certificate, config, 'vqvae')
    images = 'encoder/params/down_0/kernel', 'decoder/params/up_0/kernel', 'decoder/params/up_0/bias'
    title = 'VQ-VAE, Adam, without the layers beside images'
    compare.compare_update(certificate, title, table, moved.changes(), found, images)


def main() -> None:
    """Compares the grid before quantisation, its entries, the decoder, and a step of training.

    Images of the peer are half of ours.
    """
    options = compare.arguments(__doc__ or '', 'a checkout of zalandoresearch/pytorch-vq-vae')
    config = vq_vae.get_config('cifar10,rectified')
    width, inner, blocks, entries, size = (128, 32, 2, 512, 64) if options.full else (8, 2, 2, 6, 4)
    config.model.networks.update(width=width, blocks=blocks)
    config.model.quantizer.update(entries=entries, latent_size=size)
    if not options.full:
        config.data.resolution = 8
    size_of = f'width {width}, {entries} entries, images of {config.data.resolution}x{config.data.resolution}'
    certificate = compare.Certificate('zalando_vq_vae', options, size_of)
    names = peer_classes((options.source / 'vq-vae.ipynb').read_text())
    peer = names['Model'](width, blocks, inner, entries, size, 0.25, 0.99)
    compare.randomize(peer, rounded=not options.full)
    tensors = compare.tensors_of(peer)
    ours = quantized.from_config(config)
    with compare.in_float64(config):
        exact = quantized.from_config(config)
    draw, side = np.random.default_rng(0), config.data.resolution
    x = draw.standard_normal((8 if options.full else 2, side, side, 3)).astype(np.float32)
    z = np.zeros((1, *ours.grid), np.float32)
    networks = {'encoder': (ours.encoder, x), 'quantizer': (ours.quantizer, z, False), 'decoder': (ours.decoder, z)}
    variables = compare.converted(certificate, config, 'vqvae', tensors, networks)
    z = compare.compare(
        certificate,
        'VQ-VAE, grid before quantisation',
        lambda x: peer._pre_vq_conv(peer._encoder(x / 2)),
        lambda x: ours.encoder.apply(variables['encoder'], x),
        x,
        (peer, exact.encoder.apply, variables['encoder']),
    )
    with torch.no_grad():
        _, found, _, encodings = peer._vq_vae(torch.from_numpy(np.ascontiguousarray(z.transpose(0, 3, 1, 2))))
    chosen = ours.quantizer.apply(variables['quantizer'], z, False)
    assert np.array_equal(encodings.argmax(1).numpy(), np.asarray(chosen.indices).ravel()), 'other entries'
    entries = found.numpy().transpose(0, 2, 3, 1)
    codes = draw.standard_normal(entries.shape).astype(np.float32)  # rounded entries reach kinks of the ReLU
    output = compare.compare(
        certificate,
        'VQ-VAE, decoder',
        lambda z: 2 * peer._decoder(z),
        lambda z: ours.decoder.apply(variables['decoder'], z),
        codes,
        (peer, exact.decoder.apply, variables['decoder']),
    )
    if options.fixture:
        inputs = {'x': x, 'z': z, 'entries': entries, 'codes': codes}
        compare.write_fixture(options.fixture / 'zalando_vq_vae-vqvae.npz', tensors, inputs, output)
    compare_step(certificate, config, peer, variables, draw)
    certificate.write()


if __name__ == '__main__':
    main()
