"""Quantised autoencoders: an encoder, a quantiser and a decoder.

The quantiser is a codebook (van den Oord et al. 2017), or rounds to fixed scalar levels (Mentzer et al. 2023). Codes
are indices of its entries, int32 [B, h, w].

For the arguments that all families share, see `genlab.models`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Codec, Variables
from genlab.data.source import example_shape
from genlab.errors import ConfigError
from genlab.losses import quantization
from genlab.losses.denoising import mean_squared_error
from genlab.losses.reconstruction import absolute_error, squared_error
from genlab.models.first_stage import FirstStage
from genlab.models.tokenizer import Tokenizer
from genlab.networks.autoencoders.residual import ResidualDecoder, ResidualEncoder
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.networks.layers.quantizer import Quantized, Quantizer, ScalarQuantizer
from genlab.training.state import Network

NAMES = ('encoder', 'quantizer', 'decoder')  # names of the networks


def settings(networks: ConfigDict, quantizer: ConfigDict) -> dict[str, Any]:
    """Returns `config.model` of a VQ-VAE."""
    return dict(
        networks=networks,  # named: residual or spatial, see NETWORKS
        quantizer=quantizer,  # named: codebook or scalar, see QUANTIZERS
        variance=0.0,  # variance of the images in [-1, 1], which divides squared errors; 0 measures it on the data
    )


class VQVAE(NamedTuple):
    """Holds an encoder to a grid [B, h, w, D], a quantiser, and a decoder of the grid."""

    encoder: nn.Module
    quantizer: Quantizer | ScalarQuantizer
    decoder: nn.Module
    grid: tuple[int, int, int]  # [h, w, D]
    variance: float  # variance of the data in [-1, 1]

    @property
    def entries(self) -> int:
        """Returns the number of entries."""
        return self.quantizer.entries


def networks(vqvae: VQVAE, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    z = jnp.zeros((len(batch['x']), *vqvae.grid))
    return {
        'encoder': Network(vqvae.encoder, (batch['x'],)),
        'quantizer': Network(vqvae.quantizer, (z, False)),
        'decoder': Network(vqvae.decoder, (z,)),
    }


def terms(vqvae: VQVAE, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of `error_terms` and `quantization_terms`."""
    z, quantized, stats = infer(vqvae, variables, batch)
    output = cast(jax.Array, vqvae.decoder.apply(variables['decoder'], quantized.codes, train=True))
    errors = error_terms(output, batch['x'], vqvae.variance)
    return {**errors, **quantization_terms(vqvae.quantizer, z, quantized)}, {'quantizer': stats}


def infer(vqvae: VQVAE, variables: Variables, batch: Batch) -> tuple[jax.Array, Quantized, dict]:
    """Encodes and quantises in training mode.

    Returns:
        The grid [B, h, w, D] before quantisation, the quantised codes, and the new collections of the quantiser.
    """
    z = cast(jax.Array, vqvae.encoder.apply(variables['encoder'], batch['x'], train=True))
    return z, *quantize(vqvae.quantizer, variables['quantizer'], z)


def quantize(quantizer: Quantizer | ScalarQuantizer, variables: Any, z: jax.Array) -> tuple[Quantized, dict]:
    """Quantises a grid [B, h, w, D] in training mode. Returns the quantised codes and the new collections."""
    return cast(tuple[Quantized, dict], quantizer.apply(variables, z, True, mutable=['codebook']))


def error_terms(output: jax.Array, x: jax.Array, variance: float) -> dict[str, jax.Array]:
    """Returns the terms of a reconstruction [B, H, W, C], [B] each; means over the values of an example.

    reconstruction: squared error divided by the variance of the data.
    absolute_error: in the unit of images in [-1, 1].
    """
    return {
        'reconstruction': mean_squared_error(output, x) / variance,
        'absolute_error': absolute_error(output, x) / math.prod(x.shape[1:]),
    }


def quantization_terms(
    quantizer: Quantizer | ScalarQuantizer, z: jax.Array, quantized: Quantized
) -> dict[str, jax.Array]:
    """Returns the terms of a grid z [B, h, w, D] and its quantised codes; means over the values of an example.

    perplexity: effective number of entries that the batch uses, a diagnostic of weight 0.
    commitment: usually of weight beta = 0.25; offered only with a codebook.
    codebook: usually of weight 1; offered only where gradients train the codebook.
    """
    offered = {'perplexity': quantization.perplexity(quantized.usage)}
    if isinstance(quantizer, Quantizer):
        offered['commitment'] = quantization.commitment(z, quantized.entries)
        if not quantizer.decay:
            offered['codebook'] = quantization.codebook(z, quantized.entries)
    return offered


def encode_continuous(vqvae: VQVAE, variables: Variables, batch: Batch, keys: jax.Array | None = None) -> jax.Array:
    """Encodes to the grid [B, h, w, D] before quantisation. The keys are ignored."""
    return cast(jax.Array, vqvae.encoder.apply(variables['encoder'], batch['x']))


def decode_continuous(vqvae: VQVAE, variables: Variables, z: jax.Array) -> jax.Array:
    """Quantises a grid [B, h, w, D] and decodes it to images [B, H, W, C]."""
    return _decode_entries(vqvae, variables, _quantize(vqvae, variables, z).entries)


def encode(vqvae: VQVAE, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes images as indices of entries, int32 [B, h, w]."""
    return _quantize(vqvae, variables, encode_continuous(vqvae, variables, batch)).indices


def decode(vqvae: VQVAE, variables: Variables, indices: jax.Array) -> jax.Array:
    """Decodes indices int32 [B, h, w] to images [B, H, W, C]."""
    entries = vqvae.quantizer.apply(variables['quantizer'], indices, method='look_up')
    return _decode_entries(vqvae, variables, entries)


def measure(vqvae: VQVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures squared_error of images in [0, 1], relative_error, and commitment with a codebook.

    relative_error is the mean squared error divided by the variance of the data.
    """
    z = encode_continuous(vqvae, variables, batch)
    entries = _quantize(vqvae, variables, z).entries
    found = measured_errors(_decode_entries(vqvae, variables, entries), batch['x'], vqvae.variance)
    if isinstance(vqvae.quantizer, Quantizer):
        found['commitment'] = quantization.commitment(z, entries)
    return found


def measured_errors(output: jax.Array, x: jax.Array, variance: float) -> dict[str, jax.Array]:
    """Returns squared_error of images in [0, 1] and relative_error of a reconstruction [B, H, W, C], [B] each."""
    return {
        'squared_error': squared_error(output, x) / 4,  # rescaled to images in [0, 1]
        'relative_error': mean_squared_error(output, x) / variance,
    }


def reconstruct(vqvae: VQVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Reconstructs images from their quantised codes."""
    return {'input': batch['x'], 'output': decode(vqvae, variables, encode(vqvae, variables, batch))}


def _quantize(vqvae: VQVAE, variables: Variables, z: jax.Array) -> Quantized:
    """Quantises a grid [B, h, w, D] without training the codebook."""
    return cast(Quantized, vqvae.quantizer.apply(variables['quantizer'], z, False))


def _decode_entries(vqvae: VQVAE, variables: Variables, entries: Any) -> jax.Array:
    """Decodes entries [B, h, w, D] to images [B, H, W, C]."""
    return cast(jax.Array, vqvae.decoder.apply(variables['decoder'], entries))


def codec(vqvae: VQVAE) -> Codec:
    """Returns the codec of indices, and of the grid before quantisation."""
    continuous = Codec(functools.partial(decode_continuous, vqvae), encode=functools.partial(encode_continuous, vqvae))
    return Codec(
        functools.partial(decode, vqvae),
        encode=functools.partial(encode, vqvae),
        entries=vqvae.entries,
        continuous=continuous,
    )


def first_stage(vqvae: VQVAE) -> FirstStage:
    """Makes the first stage of latent diffusion. Its codes are the grid before quantisation.

    Decoding starts with the quantisation (Rombach et al. 2022, section 3.1).
    """
    return FirstStage(
        vqvae.grid,
        functools.partial(encode_continuous, vqvae),
        functools.partial(decode_continuous, vqvae),
        functools.partial(networks, vqvae),
        functools.partial(terms, vqvae),
        functools.partial(measure, vqvae),
        functools.partial(reconstruct, vqvae),
        trains=NAMES,
        updates=('quantizer',),
    )


def tokenizer(vqvae: VQVAE) -> Tokenizer:
    """Makes the tokenizer of a second stage: one grid of entries."""
    return Tokenizer(
        vqvae.grid[:2],
        vqvae.entries,
        functools.partial(encode, vqvae),
        functools.partial(decode, vqvae),
        functools.partial(networks, vqvae),
        names=NAMES,
    )


def from_config(config: ConfigDict, axis: str | None = None) -> VQVAE:
    """Makes the VQ-VAE of `config.model`, see `settings`."""
    quantizer = quantizer_of(config, axis)
    encoder, decoder, halvings = choices.bind(NETWORKS, config.model.networks, 'config.model.networks')(
        config, quantizer.width
    )
    check(config, halvings)
    side = config.data.resolution // 2**halvings
    return VQVAE(encoder, quantizer, decoder, (side, side, quantizer.width), config.model.variance)


def quantizer_of(config: ConfigDict, axis: str | None) -> Quantizer | ScalarQuantizer:
    """Makes the quantiser of `config.model.quantizer`.

    Raises:
        ConfigError: the player `vae` has a weight for the term `codebook` and no gradients train one, or vice versa.
    """
    quantizer = choices.bind(QUANTIZERS, config.model.quantizer, 'config.model.quantizer')(axis)
    weighted = 'vae' in config.losses and 'codebook' in config.losses.vae
    if isinstance(quantizer, Quantizer) and 'vae' in config.losses and (quantizer.decay == 0) != weighted:
        raise ConfigError(
            f'config.model.quantizer.decay={quantizer.decay}: a codebook learns by moving averages, or from gradients: '
            'set config.losses.vae.codebook if and only if the decay is 0'
        )
    return quantizer


def check(config: ConfigDict, halvings: int) -> None:
    """Raises ConfigError if the side of the images cannot be halved so often."""
    side = config.data.resolution
    if side % 2**halvings:
        raise ConfigError(
            f'config.data.resolution={side} cannot be halved {halvings} times: take a multiple of {2**halvings}'
        )


def _residual(
    config: ConfigDict,
    size: int,
    *,
    width: int,
    halvings: int,
    blocks: int,
    inner: int = 0,
    use_bias: bool = True,
    rectified: bool = False,
) -> tuple[nn.Module, nn.Module, int]:
    sizes: dict[str, Any] = dict(halvings=halvings, blocks=blocks, inner=inner, use_bias=use_bias, rectified=rectified)
    sizes['dtype'] = jnp.dtype(config.model.dtype)
    return ResidualEncoder(width, size, **sizes), ResidualDecoder(width, config.data.channels, **sizes), halvings


def _spatial(
    config: ConfigDict, size: int, *, width: int, multipliers: tuple[int, ...], blocks: int, attention: bool = False
) -> tuple[nn.Module, nn.Module, int]:
    dtype = jnp.dtype(config.model.dtype)
    sizes: dict[str, Any] = dict(multipliers=tuple(multipliers), blocks=blocks, attention=attention, dtype=dtype)
    encoder = SpatialEncoder(width, size, variance=False, **sizes)
    return encoder, SpatialDecoder(width, size, example_shape(config), None, **sizes), len(multipliers) - 1


# Name -> (encoder, decoder, halvings of the side) of a config and the channels of a code; keyword arguments: options.
NETWORKS: dict[str, Callable[..., tuple[nn.Module, nn.Module, int]]] = {'residual': _residual, 'spatial': _spatial}


def _codebook(
    axis: str | None, *, entries: int, latent_size: int, decay: float = 0.99, patience: int = 100
) -> Quantizer:
    # latent_size: of an entry; decay: of the moving averages that train the codebook, 0: gradients of the term codebook
    # do; patience: batches after which an unused entry is reset, 0 for never.
    return Quantizer(entries, latent_size, decay, patience=patience, axis=axis)


def _scalar(axis: str | None, *, levels: tuple[int, ...]) -> ScalarQuantizer:
    if min(levels) < 3:
        raise ConfigError(f'config.model.quantizer.levels={tuple(levels)}: give at least 3 levels per channel')
    return ScalarQuantizer(tuple(levels), axis)


# Name -> quantiser for a mapped axis; the keyword arguments are the options.
QUANTIZERS: dict[str, Callable[..., Quantizer | ScalarQuantizer]] = {'codebook': _codebook, 'scalar': _scalar}
