"""Parity with the transformer of facebookresearch/DiT, with samples of its chain, and with a step of its training.

It needs timm, or takes its three layers as written below.

python -m benchmarks.parity.dit --source=FOLDER [--full] [--certify]
"""

import sys
import types
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn

from benchmarks.parity import compare
from configs import dit
from genlab.diffusion.model import make_model


class PatchEmbed(nn.Module):
    """Embeds patches: [B, C, H, W] -> [B, N, width]."""

    def __init__(self, side, patch, channels, width, bias=True):
        super().__init__()
        self.patch_size, self.num_patches = (patch, patch), (side // patch) ** 2
        self.proj = nn.Conv2d(channels, width, patch, patch, bias=bias)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention with a packed layer of query, key and value."""

    def __init__(self, width, num_heads, qkv_bias):
        super().__init__()
        self.heads = num_heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=qkv_bias), nn.Linear(width, width)

    def forward(self, x):
        batch, count, width = x.shape
        split = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*split)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Mlp(nn.Module):
    """Two dense layers."""

    def __init__(self, in_features, hidden_features, act_layer, drop):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(in_features, hidden_features), nn.Linear(hidden_features, in_features)
        self.act = act_layer()

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


def layers() -> str:
    """Makes timm's layers importable, and returns whose they are."""
    try:
        import timm.models.vision_transformer

        return f'with timm {timm.__version__}'
    except Exception:  # absent, or without torchvision
        module = types.ModuleType('timm.models.vision_transformer')
        module.PatchEmbed, module.Attention, module.Mlp = PatchEmbed, Attention, Mlp
        for name in [name for name in sys.modules if name.partition('.')[0] == 'timm']:
            del sys.modules[name]
        for name in ('timm', 'timm.models'):
            sys.modules[name] = types.ModuleType(name)
        sys.modules['timm.models.vision_transformer'] = module
        return "with the script's own layers in place of timm's"


def compare_step(
    certificate: compare.Certificate, config: ConfigDict, peer: nn.Module, variables: Mapping[str, Any], x: np.ndarray
) -> None:
    """Compares one step of Adam on the hybrid loss, with the same codes [B, H, W, C], classes, noise and times."""
    import diffusion

    classes = np.array([1, 2])
    config.optimizer.denoiser.update(learning_rate=1e-4, clip=0.0)
    condition = {'label': jnp.asarray(classes, jnp.int32)}
    times, epsilon, found = compare.denoiser_stepped(config, variables, x, condition)
    steps, rates = torch.from_numpy(np.round(times * 1000).astype(int) - 1), config.optimizer.denoiser
    peer.y_embedder.dropout_prob = 0.0
    moved = compare.Moved(peer)
    optimizer = torch.optim.AdamW(peer.parameters(), rates.learning_rate, weight_decay=0.0)  # as in its training loop
    with compare.widened():
        chain, labels = diffusion.create_diffusion(''), {'y': torch.from_numpy(classes)}
        losses = chain.training_losses(peer, compare.double(x), steps, labels, noise=compare.double(epsilon))
        losses['loss'].mean().backward()
    optimizer.step()
    table = compare.table_of(certificate, config, 'transformer')
    compare.compare_update(certificate, 'DiT, Adam', table, moved.changes(), found)


def main() -> None:
    """Compares the network; --full takes DiT-S/2 on codes of 32x32x4."""
    options = compare.arguments(__doc__ or '', 'a checkout of facebookresearch/DiT')
    whose = layers()
    sys.path.append(str(options.source))
    import diffusion
    import models

    size = dict(width=384, depth=12, heads=6) if options.full else dict(width=16, depth=2, heads=2)
    side, classes = (32, 1000) if options.full else (4, 3)
    title = f'{"DiT-S/2" if options.full else "two blocks of width 16"}, {side}x{side} codes of 4 channels'
    certificate = compare.Certificate('dit', options, title, peer=whose)
    config = dit.get_config()
    config.data.update(resolution=side, channels=4)
    config.model.update(classes=classes, learned_variance=True, prediction='epsilon')
    config.model.process, config.model.times = dit.named('linear', steps=1000), dit.named('discrete', steps=1000)
    config.losses.denoiser = dict(epsilon=1.0, variance=0.001)
    config.sample.sampler = dit.named('ancestral', variance='learned')
    with config.unlocked():
        config.model.network = dit.named('transformer', patch=2, endpoint=False, **size)
    peer = models.DiT(side, 2, 4, size['width'], size['depth'], size['heads'], num_classes=classes)
    positions = peer.pos_embed.detach().clone()
    compare.randomize(peer)
    peer.pos_embed.copy_(positions.half().float())
    tensors = compare.tensors_of(peer)
    network, times = make_model(config, (side, side, 4)).network, np.array([7.0, 903.0], np.float32)
    networks = {'denoiser': (network, jnp.zeros((1, side, side, 4)), jnp.zeros(1), False)}
    variables = compare.converted(certificate, config, 'transformer', tensors, networks)['denoiser']
    labels = np.array([1, classes])
    x = np.random.default_rng(0).standard_normal((2, side, side, 4)).astype(np.float32)
    output = compare.compare(
        certificate,
        'DiT',
        lambda x: peer(x, torch.from_numpy(times), torch.from_numpy(labels)),
        lambda x: network.apply(variables, x, times, False, labels=labels),
        x,
    )
    chain = diffusion.create_diffusion('4')
    start, classes_of = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.tensor([0, 2])
    both = dict(y=torch.cat([classes_of, torch.full((2,), classes)]), cfg_scale=1.5)
    with torch.no_grad(), compare.noise_of(x, copies=2):
        samples = chain.p_sample_loop(
            peer.forward_with_cfg,
            (4, *start.shape[1:]),
            start.repeat(2, 1, 1, 1),
            False,
            model_kwargs=both,
            device='cpu',
        )
    config.sample.update(grid=dit.named('linspace'), steps=4, guidance=1.5, guidance_channels=3, clip=False)
    found = compare.sampled(config, variables, x, {'labels': classes_of.numpy()})
    error = compare.difference(found, samples[:2].numpy().transpose(0, 2, 3, 1))
    certificate.add('DiT, four guided ancestral steps of learned variance', trajectory=error)
    if options.fixture:
        inputs = {'x': x, 'level': times, 'labels': labels}
        compare.write_fixture(options.fixture / 'dit-transformer.npz', tensors, inputs, output)
    compare_step(certificate, config, peer, {'denoiser': variables}, np.tanh(x))
    certificate.write()


if __name__ == '__main__':
    main()
