"""facebookresearch/DiT: `DiT-XL-2-256x256.pt`, and checkpoints of its training.

The published file is a state dict. A checkpoint of training holds `model`, `ema`, the optimizer and its arguments. The
autoencoder is another file: the run of `config.model.first_stage`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.networks.diffusion.dit import DiT
from genlab.published.mapping import CONV, DENSE, SAME, Entry, Keys, Record, Table, affine, reshaped

SCALE = 0.18215  # factor of the codes of KL-f8 in the peer's code
SIZES = {'S': (384, 12, 6), 'B': (768, 12, 12), 'L': (1024, 24, 16), 'XL': (1152, 28, 16)}  # width, depth, heads


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the table of the transformer."""
    constants: dict[str, float] = {}
    if config.experiment == 'latent_diffusion':
        constants = {
            'scale/latents/variance': SCALE**-2,
            'scale/latents/mean': 0.0,
            'scale/latents/count': config.model.scale_steps,
        }
    return {'transformer': Table((*_entries(config),), constants=constants, sections=(('ema',), ('model',), ()))}


def _entries(config: ConfigDict) -> Iterator[Entry]:
    network, ours = config.model.network, 'denoiser/params'
    patches = reshaped(CONV, lambda shape: (network.patch, network.patch, -1, shape[-1]))
    yield from affine('x_embedder.proj', f'{ours}/patches', patches)
    yield Entry('pos_embed', 'denoiser/constants/positions', SAME)
    yield from affine('t_embedder.mlp.0', f'{ours}/level/hidden', DENSE)
    yield from affine('t_embedder.mlp.2', f'{ours}/level/output', DENSE)
    yield Entry('y_embedder.embedding_table.weight', f'{ours}/label/embedding', SAME)
    for row in range(network.depth):
        for theirs, name in (
            ('attn.qkv', 'attention/query_key_value'),
            ('attn.proj', 'attention/output'),
            ('mlp.fc1', 'hidden'),
            ('mlp.fc2', 'hidden_output'),
            ('adaLN_modulation.1', 'modulation'),
        ):
            yield from affine(f'blocks.{row}.{theirs}', f'{ours}/blocks/{name}', DENSE, row=row)
    yield from affine('final_layer.adaLN_modulation.1', f'{ours}/output_modulation', DENSE)
    yield from affine('final_layer.linear', f'{ours}/output', DENSE)


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the arguments of the peer's training."""
    keys = Keys(found)
    keys.drop('data_path', 'results_dir', 'epochs', 'global_batch_size', 'global_seed', 'vae', 'num_workers')
    keys.drop('log_every', 'ckpt_every')
    size, _, patch = str(keys.take('model', 'DiT-XL/2')).removeprefix('DiT-').partition('/')
    if size not in SIZES or not patch.isdecimal():
        raise ConfigError(f'the model DiT-{size}/{patch} of its configuration is unknown')
    width, depth, heads = SIZES[size]
    expected = {
        'model.network.name': 'transformer',
        'model.network.width': width,
        'model.network.depth': depth,
        'model.network.heads': heads,
        'model.network.patch': int(patch),
        'data.resolution': keys.take('image_size', 256),
        'model.classes': keys.take('num_classes', 1000),
    }
    keys.done()
    return expected


RECORD = Record('facebookresearch/DiT', tables, translate, ('args',), {'model.network': DiT})
