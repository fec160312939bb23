"""Quantised autoencoders with two grids of codes (Razavi et al. 2019, VQ-VAE-2): {'top': ..., 'bottom': ...}.

The top encoder sees the features of the bottom encoder. The bottom codes depend on the decoded top codes too, so the
bottom grid keeps only what the top grid lacks. Codes are int32, top [B, h, w] and bottom [B, 2 h, 2 w].

For the arguments that all families share, see `genlab.models`. `config.model`: see `genlab.models.quantized.settings`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Codec, Variables
from genlab.models import quantized
from genlab.models.tokenizer import Tokenizer
from genlab.networks.autoencoders.residual import ResidualEncoder
from genlab.networks.autoencoders.two_grids import Decoder, TopDown
from genlab.networks.layers.quantizer import Quantized, Quantizer, ScalarQuantizer
from genlab.training.state import Network

Grids = dict[str, jax.Array]  # 'top' and 'bottom'
QUANTIZERS = ('top_quantizer', 'bottom_quantizer')
NAMES = ('features', 'top_encoder', 'top_quantizer', 'bottom_encoder', 'bottom_quantizer', 'decoder')  # of the networks


class TwoGridVQVAE(NamedTuple):
    """Holds the networks of both levels. Both quantisers have the same settings."""

    features: nn.Module  # images -> features [B, 2 h, 2 w, W]
    top_encoder: nn.Module  # features -> [B, h, w, D]
    bottom_encoder: nn.Module  # (top entries, features) -> [B, 2 h, 2 w, D]
    decoder: nn.Module  # (top entries, bottom entries) -> images
    quantizer: Quantizer | ScalarQuantizer  # quantiser of one grid
    side: int  # h = w of the top grid
    width: int  # W
    variance: float  # variance of the data in [-1, 1]


class Pass(NamedTuple):
    """Holds the grids of a batch, before and after quantisation."""

    z: Grids  # [B, ..., D]
    quantized: dict[str, Quantized]
    stats: dict  # new collections of the quantisers in training


def networks(model: TwoGridVQVAE, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    count, side, size = len(batch['x']), model.side, model.quantizer.width
    top, bottom = jnp.zeros((count, side, side, size)), jnp.zeros((count, 2 * side, 2 * side, size))
    features = jnp.zeros((*bottom.shape[:3], model.width))
    return {
        'features': Network(model.features, (batch['x'],)),
        'top_encoder': Network(model.top_encoder, (features,)),
        'top_quantizer': Network(model.quantizer, (top, False)),
        'bottom_encoder': Network(model.bottom_encoder, (top, features)),
        'bottom_quantizer': Network(model.quantizer, (bottom, False)),
        'decoder': Network(model.decoder, (top, bottom)),
    }


def infer(model: TwoGridVQVAE, variables: Variables, batch: Batch, train: bool) -> Pass:
    """Encodes and quantises both grids; with `train`, codebooks learn."""
    z: Grids = {}
    found: dict[str, Quantized] = {}
    stats: dict[str, Any] = {}

    def quantize(level: str) -> None:
        name = f'{level}_quantizer'
        outputs = model.quantizer.apply(variables[name], z[level], train, mutable=['codebook'])
        found[level], stats[name] = cast(tuple[Quantized, dict], outputs)

    features = cast(jax.Array, model.features.apply(variables['features'], batch['x'], train))
    z['top'] = cast(jax.Array, model.top_encoder.apply(variables['top_encoder'], features, train))
    quantize('top')
    bottom = model.bottom_encoder.apply(variables['bottom_encoder'], found['top'].codes, features, train)
    z['bottom'] = cast(jax.Array, bottom)
    quantize('bottom')
    return Pass(z, found, stats)


def decode_entries(model: TwoGridVQVAE, variables: Variables, entries: Grids, train: bool = False) -> jax.Array:
    """Decodes entries, top [B, h, w, D] and bottom [B, 2 h, 2 w, D], to images [B, H, W, C]."""
    outputs = model.decoder.apply(variables['decoder'], entries['top'], entries['bottom'], train)
    return cast(jax.Array, outputs)


def terms(model: TwoGridVQVAE, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of `quantized.error_terms` and `quantized.quantization_terms`.

    commitment and codebook are sums over both grids. The perplexities are top_perplexity and bottom_perplexity.
    """
    seen = infer(model, variables, batch, True)
    output = decode_entries(model, variables, {level: seen.quantized[level].codes for level in seen.z}, True)
    offered = quantized.error_terms(output, batch['x'], model.variance)
    for level in seen.z:
        for name, term in quantized.quantization_terms(model.quantizer, seen.z[level], seen.quantized[level]).items():
            if name == 'perplexity':
                offered[f'{level}_perplexity'] = term
            else:
                offered[name] = offered[name] + term if name in offered else term
    return offered, seen.stats


def encode(model: TwoGridVQVAE, variables: Variables, batch: Batch) -> Grids:
    """Encodes images as indices of entries, int32: top [B, h, w] and bottom [B, 2 h, 2 w]."""
    return {level: found.indices for level, found in infer(model, variables, batch, False).quantized.items()}


def decode(model: TwoGridVQVAE, variables: Variables, codes: Grids) -> jax.Array:
    """Decodes indices int32, top [B, h, w] and bottom [B, 2 h, 2 w], to images [B, H, W, C]."""
    return decode_entries(model, variables, {level: look_up(model, variables, codes, level) for level in codes})


def look_up(model: TwoGridVQVAE, variables: Variables, codes: Grids, level: str) -> jax.Array:
    """Looks up the entries [B, ..., D] of the indices of one level."""
    return cast(jax.Array, model.quantizer.apply(variables[f'{level}_quantizer'], codes[level], method='look_up'))


def measure(model: TwoGridVQVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures squared_error of images in [0, 1], and relative_error, divided by the variance of the data."""
    output = decode(model, variables, encode(model, variables, batch))
    return quantized.measured_errors(output, batch['x'], model.variance)


def reconstruct(model: TwoGridVQVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Reconstructs images from their codes."""
    return {'input': batch['x'], 'output': decode(model, variables, encode(model, variables, batch))}


def codec(model: TwoGridVQVAE) -> Codec:
    """Returns the codec of indices."""
    return Codec(
        functools.partial(decode, model), encode=functools.partial(encode, model), entries=model.quantizer.entries
    )


def tokenizer(model: TwoGridVQVAE) -> Tokenizer:
    """Makes the tokenizer of a second stage: a coarse grid of entries and a fine one."""
    return Tokenizer(
        shapes={'top': (model.side, model.side), 'bottom': (2 * model.side, 2 * model.side)},
        entries={'top': model.quantizer.entries, 'bottom': model.quantizer.entries},
        encode=functools.partial(encode, model),
        decode=functools.partial(decode, model),
        networks=functools.partial(networks, model),
        names=NAMES,
    )


def from_config(config: ConfigDict, axis: str | None = None) -> TwoGridVQVAE:
    """Makes the autoencoder of `config.model`, see `quantized.settings`."""
    quantizer = quantized.quantizer_of(config, axis)
    make = choices.bind(NETWORKS, config.model.networks, 'config.model.networks')
    features, top, bottom, decoder, halvings, width = make(config, quantizer.width)
    quantized.check(config, halvings + 1)
    side = config.data.resolution // 2 ** (halvings + 1)
    return TwoGridVQVAE(features, top, bottom, decoder, quantizer, side, width, config.model.variance)


def _residual(
    config: ConfigDict, size: int, *, width: int, halvings: int, blocks: int, inner: int = 0, use_bias: bool = True
) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module, int, int]:
    sizes: dict[str, Any] = dict(blocks=blocks, inner=inner, use_bias=use_bias, dtype=jnp.dtype(config.model.dtype))
    features = ResidualEncoder(width, 0, halvings, **sizes)
    top = ResidualEncoder(width, size, halvings=1, channels=(width // 2,), **sizes)
    decoder = Decoder(width, config.data.channels, halvings, **sizes)
    return features, top, TopDown(width, size, **sizes), decoder, halvings, width


# Name -> (features, top encoder, bottom encoder, decoder, halvings to the bottom grid, width of the features) of a
# config and the channels of a code; the keyword arguments are the options.
NETWORKS: dict[str, Callable[..., tuple]] = {'residual': _residual}
