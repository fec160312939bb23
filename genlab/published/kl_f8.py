"""CompVis/latent-diffusion: the autoencoder KL-f8, `model.ckpt` of its training, without the discriminator of the loss.

The configuration is a separate YAML file.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.published.mapping import CONV, CONV_DENSE, Entry, Keys, Record, Table, affine, norm, residual


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the table of encoder and decoder."""
    return {
        'autoencoder': Table(
            (*encoder(config.model.networks), *decoder(config.model.networks)),
            sections=(('state_dict',), ()),
            dropped=('loss.',),
        )
    }


def encoder(networks: ConfigDict, attend_last: bool = False) -> Iterator[Entry]:
    """Yields the tensors of the encoder. `attend_last`: attention after each block of the smallest side."""
    ours = 'encoder/params'
    levels, last = len(networks.multipliers), networks.width
    yield from affine('encoder.conv_in', f'{ours}/input', CONV)
    for i, multiplier in enumerate(networks.multipliers):
        width = networks.width * multiplier
        for j in range(networks.blocks):
            yield from _block(f'encoder.down.{i}.block.{j}', f'{ours}/block_{i}_{j}', last != width)
            if attend_last and i == levels - 1:
                yield from _attention(f'encoder.down.{i}.attn.{j}', ours, f'_{i}_{j}')
            last = width
        if i < levels - 1:
            yield from affine(f'encoder.down.{i}.downsample.conv', f'{ours}/down_{i + 1}', CONV)
    yield from _middle('encoder', ours)
    yield from norm('encoder.norm_out', f'{ours}/normalization')
    yield from affine('encoder.conv_out', f'{ours}/output', CONV)
    yield from affine('quant_conv', f'{ours}/moments', CONV)


def decoder(networks: ConfigDict, attend_last: bool = False) -> Iterator[Entry]:
    """Yields the tensors of the decoder; see `encoder`."""
    ours, levels = 'decoder/params', len(networks.multipliers)
    last = networks.width * networks.multipliers[-1]
    yield from affine('post_quant_conv', f'{ours}/codes', CONV)
    yield from affine('decoder.conv_in', f'{ours}/input', CONV)
    yield from _middle('decoder', ours)
    for i, multiplier in reversed([*enumerate(networks.multipliers)]):
        width = networks.width * multiplier
        for j in range(networks.blocks + 1):
            yield from _block(f'decoder.up.{i}.block.{j}', f'{ours}/block_{i}_{j}', last != width)
            if attend_last and i == levels - 1:
                yield from _attention(f'decoder.up.{i}.attn.{j}', ours, f'_{i}_{j}')
            last = width
        if i:
            yield from affine(f'decoder.up.{i}.upsample.conv', f'{ours}/up_{i}', CONV)
    yield from norm('decoder.norm_out', f'{ours}/normalization')
    yield from affine('decoder.conv_out', f'{ours}/output', CONV)


def _block(theirs: str, ours: str, shortcut: bool) -> Iterator[Entry]:
    return residual(theirs, ours, shortcut='nin_shortcut' if shortcut else '')


def _middle(theirs: str, ours: str) -> Iterator[Entry]:
    for j in (0, 1):
        yield from _block(f'{theirs}.mid.block_{j + 1}', f'{ours}/middle/block_{j}', False)
    yield from _attention(f'{theirs}.mid.attn_1', f'{ours}/middle')


def _attention(theirs: str, ours: str, suffix: str = '') -> Iterator[Entry]:
    layer = f'{ours}/attention{suffix}'
    yield from norm(f'{theirs}.norm', f'{ours}/normalization{suffix}')
    for part, name in enumerate('qkv'):
        yield from affine(f'{theirs}.{name}', f'{layer}/query_key_value', CONV_DENSE, part=(part, 3))
    yield from affine(f'{theirs}.proj_out', f'{layer}/output', CONV_DENSE)


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the YAML file of an AutoencoderKL. Its loss is not part of the network."""
    params = model(found, 'ldm.models.autoencoder.AutoencoderKL')
    params.drop('lossconfig')
    latent_size = params.take('embed_dim')
    expected, attended = networks(params, latent_size, double=True)
    params.done()
    if attended:
        raise ConfigError('the key attn_resolutions of its configuration is not supported: only []')
    return {**expected, 'model.latent_size': latent_size}


def model(found: Mapping[str, Any], target: str) -> Keys:
    """Returns the arguments of the model in a YAML file of training. Keys of data and training are passed over.

    Args:
      found: the whole file.
      target: the class that the file must name.
    """
    keys = Keys(found)
    keys.drop('data', 'lightning')
    inner = keys.inner('model')
    keys.done()
    inner.drop('base_learning_rate')
    inner.only(target=target)
    params = inner.inner('params')
    inner.done()
    params.drop('monitor', 'ckpt_path', 'ignore_keys', 'image_key')
    params.only(colorize_nlabels=None)
    return params


def networks(params: Keys, latent_size: int, double: bool) -> tuple[dict[str, Any], bool]:
    """Translates the arguments of encoder and decoder, `ddconfig`.

    Args:
      params: of the model; they lose this key.
      latent_size: channels of the codes. The layers around them must have as many.
      double: whether the encoder returns variances too.

    Returns:
      The values that our config must have, and whether blocks of the smallest side attend. Others never do.
    """
    keys = params.inner('ddconfig')
    keys.drop('dropout')
    channels, multipliers = keys.take('in_channels'), keys.take('ch_mult', (1, 2, 4, 8))
    keys.only(double_z=double, z_channels=latent_size, out_ch=channels, resamp_with_conv=True, give_pre_end=False)
    keys.only(tanh_out=False, use_linear_attn=False, attn_type='vanilla')
    smallest, attended = keys.take('resolution') >> (len(multipliers) - 1), keys.take('attn_resolutions')
    if attended not in ((), (smallest,)):
        raise ConfigError(f'the key attn_resolutions={attended} of its configuration is not supported: only {smallest}')
    expected = {
        'data.channels': channels,
        'model.networks.name': 'spatial',
        'model.networks.width': keys.take('ch'),
        'model.networks.multipliers': multipliers,
        'model.networks.blocks': keys.take('num_res_blocks'),
    }
    keys.done()
    return expected, bool(attended)


RECORD = Record('CompVis/latent-diffusion (KL-f8)', tables, translate)
