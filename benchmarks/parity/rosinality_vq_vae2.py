"""Parity with the VQ-VAE-2 of rosinality/vq-vae-2-pytorch, and with the training step of its codebooks.

python -m benchmarks.parity.rosinality_vq_vae2 --source=FOLDER [--full] [--certify]
"""

import sys
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks.parity import compare
from configs import vq_vae2
from genlab.models import hierarchical_quantized


def compare_step(
    certificate: compare.Certificate,
    config: ConfigDict,
    peer: torch.nn.Module,
    variables: Mapping[str, Any],
    x: np.ndarray,
) -> None:
    """Compares one step of Adam on the peer's loss; x: [B, H, W, C]."""
    config.model.variance, rates = 1.0, config.optimizer.vae
    found = compare.images_stepped(config, variables, {'x': x})
    moved = compare.Moved(peer)
    optimizer = torch.optim.Adam(peer.parameters(), rates.learning_rate, (rates.b1, rates.b2), rates.epsilon)
    with compare.widened():
        images = compare.double(x)
        output, commitment = peer(images)
        (torch.nn.functional.mse_loss(output, images) + 0.25 * commitment.mean()).backward()
    optimizer.step()
    table = compare.table_of(certificate, config, 'vqvae')
    compare.compare_update(certificate, 'VQ-VAE-2, Adam', table, moved.changes(), found)


def main() -> None:
    """Compares both encoders, the codes, the decoder, a step of the moving averages, and a step of training."""
    options = compare.arguments(__doc__ or '', 'a checkout of rosinality/vq-vae-2-pytorch')
    sys.path.append(str(options.source))
    import vqvae

    config = vq_vae2.get_config('faces')
    config.data.update(source='digits', dir='', resolution=32 if options.full else 16, channels=1)
    sizes = dict(channel=128, n_res_block=2, n_res_channel=32, embed_dim=64, n_embed=512)
    if not options.full:
        sizes = dict(channel=8, n_res_block=1, n_res_channel=2, embed_dim=4, n_embed=6)
        config.model.networks.update(width=8, blocks=1)
        config.model.quantizer.update(entries=6, latent_size=4)
    side = config.data.resolution
    size_of = f'width {sizes["channel"]}, {sizes["n_embed"]} entries, images of {side}x{side}'
    certificate = compare.Certificate('rosinality_vq_vae2', options, size_of)
    peer = vqvae.VQVAE(in_channel=1, **sizes)
    compare.randomize(peer, rounded=not options.full)
    for quantizer in (peer.quantize_t, peer.quantize_b):
        quantizer.cluster_size.abs_().add_(1 / 64)  # counts
    tensors = compare.tensors_of(peer)
    variables = compare.converted(certificate, config, 'vqvae', tensors)
    ours = hierarchical_quantized.from_config(config)
    with compare.in_float64(config):
        exact = hierarchical_quantized.from_config(config)
    draw = np.random.default_rng(0)
    x = draw.standard_normal((8 if options.full else 2, side, side, 1)).astype(np.float32)
    top_z = compare.compare(
        certificate,
        'VQ-VAE-2, top grid before quantisation',
        lambda x: peer.quantize_conv_t(peer.enc_t(peer.enc_b(x))),
        lambda x: ours.top_encoder.apply(variables['top_encoder'], ours.features.apply(variables['features'], x)),
        x,
        (
            peer,
            lambda own, x: exact.top_encoder.apply(own['top_encoder'], exact.features.apply(own['features'], x)),
            variables,
        ),
    )
    with torch.no_grad():
        tensor = torch.from_numpy(x.transpose(0, 3, 1, 2))
        top, bottom, _, *codes = peer.encode(tensor)
        features = peer.enc_b(tensor).numpy().transpose(0, 2, 3, 1)
    top, bottom = (grid.numpy().transpose(0, 2, 3, 1) for grid in (top, bottom))
    found = hierarchical_quantized.infer(ours, variables, {'x': x}, False).quantized
    for level, indices in zip(('top', 'bottom'), codes):
        assert np.array_equal(found[level].indices, indices.numpy()), f'other entries of the {level} grid'
    # The entries are round: they reach kinks of the ReLU.
    above, below = (draw.standard_normal(grid.shape).astype(np.float32) for grid in (top, bottom))
    fixed = torch.from_numpy(np.ascontiguousarray(features.transpose(0, 3, 1, 2)))
    bottom_z = compare.compare(
        certificate,
        'VQ-VAE-2, bottom grid before quantisation, from a top grid',
        lambda top: peer.quantize_conv_b(torch.cat([peer.dec_t(top), fixed.to(top.dtype)], 1)),
        lambda top: ours.bottom_encoder.apply(variables['bottom_encoder'], top, features),
        above,
        (
            peer,
            lambda own, top: exact.bottom_encoder.apply(own, top, compare.wide(features)),
            variables['bottom_encoder'],
        ),
    )
    both = np.concatenate([above.repeat(2, 1).repeat(2, 2), below], -1)  # one input for both grids
    size = top.shape[-1]
    output = compare.compare(
        certificate,
        'VQ-VAE-2, decoder',
        lambda both: peer.decode(both[:, :size, ::2, ::2], both[:, size:]),
        lambda both: ours.decoder.apply(variables['decoder'], both[:, ::2, ::2, :size], both[..., size:]),
        both,
        (
            peer,
            lambda own, both: exact.decoder.apply(own, both[:, ::2, ::2, :size], both[..., size:]),
            variables['decoder'],
        ),
    )
    z = draw.standard_normal((2, 4, 4, size)).astype(np.float32)
    before = [(quantizer, quantizer.state_dict()) for quantizer in (peer.quantize_t, peer.quantize_b)]
    before = [(quantizer, {name: tensor.clone() for name, tensor in held.items()}) for quantizer, held in before]
    entries = peer.quantize_b(torch.from_numpy(z))[0].numpy()
    peer.quantize_t.train()(torch.from_numpy(z))
    _, moved = ours.quantizer.apply(variables['top_quantizer'], jnp.asarray(z), True, mutable=['codebook'])
    expected = {'entries': peer.quantize_t.embed.numpy().T, 'count': peer.quantize_t.cluster_size.numpy()}
    for name, array in expected.items():
        error = compare.difference(moved['codebook'][name], array)
        certificate.add(f'codebook, {name} after a step', update=error)
    if options.fixture:
        inputs = {'x': x, 'features': features, 'top_z': top_z, 'top': top, 'bottom_z': bottom_z}
        inputs |= {
            'above': above,
            'below': below,
            'z': z,
            'entries': entries,
            **{f'moved_{name}': array for name, array in expected.items()},
        }
        compare.write_fixture(options.fixture / 'rosinality_vq_vae2-vqvae.npz', tensors, inputs, output)
    for quantizer, held in before:
        quantizer.load_state_dict(held)
    compare_step(certificate, config, peer, variables, np.tanh(x))
    certificate.write()


if __name__ == '__main__':
    main()
