"""Parity with the transformer of facebookresearch/DiT. It needs timm, or takes its three layers as written below.

python -m benchmarks.parity.dit --source=FOLDER [--full]
"""

import sys
import types

import numpy as np
import torch
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

        return f'timm {timm.__version__}'
    except Exception:  # absent, or without torchvision
        module = types.ModuleType('timm.models.vision_transformer')
        module.PatchEmbed, module.Attention, module.Mlp = PatchEmbed, Attention, Mlp
        for name in [name for name in sys.modules if name.partition('.')[0] == 'timm']:
            del sys.modules[name]
        for name in ('timm', 'timm.models'):
            sys.modules[name] = types.ModuleType(name)
        sys.modules['timm.models.vision_transformer'] = module
        return 'layers of this script'


def main() -> None:
    """Compares the network; --full takes DiT-S/2 on codes of 32x32x4."""
    options = compare.arguments(__doc__ or '', 'a checkout of facebookresearch/DiT')
    whose = layers()
    sys.path.append(str(options.source))
    import models

    size = dict(width=384, depth=12, heads=6) if options.full else dict(width=16, depth=2, heads=2)
    side, classes = (32, 1000) if options.full else (4, 3)
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
    variables = converted(config, tensors)
    network, times = make_model(config, (side, side, 4)).network, np.array([7.0, 903.0], np.float32)
    labels = np.array([1, classes])
    x = np.random.default_rng(0).standard_normal((2, side, side, 4)).astype(np.float32)
    output = compare.compare(
        'DiT',
        lambda x: peer(x, torch.from_numpy(times), torch.from_numpy(labels)),
        lambda x: network.apply(variables, x, times, False, labels=labels),
        x,
    )
    if options.fixture:
        inputs = {'x': x, 'level': times, 'labels': labels}
        compare.write_fixture(options.fixture / 'dit-transformer.npz', tensors, inputs, output)
    print(compare.versions(), whose, compare.commit(options.source))


def converted(config, tensors):
    """Converts the tensors, in shapes of the network alone: the data of this size do not exist."""
    import jax
    import jax.numpy as jnp

    from genlab import published
    from genlab.published import mapping

    side = config.data.resolution
    network = make_model(config, (side, side, 4)).network
    inputs = jnp.zeros((1, side, side, 4)), jnp.zeros(1), False
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))
    record = published.record('dit')
    table = record.tables(record.complete(config))['transformer']
    known = {path: leaf.shape for path, leaf in mapping.paths({'denoiser': shapes}).items()}
    arrays = mapping.to_ours(tensors, table, known, 'the reference')
    back = mapping.to_theirs(arrays, table)
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)
    return mapping.nested(arrays)['denoiser']


if __name__ == '__main__':
    main()
