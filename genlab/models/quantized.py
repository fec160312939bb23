"""Vector-quantised autoencoders (van den Oord et al. 2017): an encoder, a codebook and a decoder.

Codes are indices of codebook entries, int32 [B, h, w].

For the arguments that all families share, see `genlab.models`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.data.source import example_shape
from genlab.errors import ConfigError
from genlab.losses import quantization
from genlab.losses.denoising import mean_squared_error
from genlab.losses.reconstruction import squared_error
from genlab.models.first_stage import FirstStage
from genlab.models.tokenizer import Tokenizer
from genlab.networks.autoencoders.residual import ResidualDecoder, ResidualEncoder
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.networks.layers.quantizer import Quantized, Quantizer
from genlab.training.state import Network


def settings(networks: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a VQ-VAE whose codebook learns by moving averages, but for the changes."""
    return choices.filled(
        'config.model',
        dict(
            networks=networks,  # named: residual or spatial, see NETWORKS
            entries=512,  # of the codebook
            latent_size=64,  # of an entry
            decay=0.99,  # of the moving averages that train the codebook; 0: gradients of the term codebook do
            patience=100,  # batches after which an unused entry is reset; 0 for never
            variance=0.0,  # of the images in [-1, 1], which divides errors; 0 measures it on the data
        ),
        changes,
    )


class VQVAE(NamedTuple):
    """Holds an encoder to a grid [B, h, w, D], a quantiser, and a decoder of the grid."""

    encoder: nn.Module
    quantizer: Quantizer
    decoder: nn.Module
    grid: tuple[int, int, int]  # [h, w, D]
    variance: float  # variance of the data in [-1, 1]

    @property
    def entries(self) -> int:
        """Returns the number of codebook entries."""
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
    """Offers the terms of the player. Errors are means over the values of an example.

    reconstruction: squared error divided by the variance of the data.
    commitment: usually of weight beta = 0.25.
    codebook: of weight 1; offered only where gradients train the codebook.
    perplexity: effective number of entries that the batch uses, a diagnostic of weight 0.
    """
    z = cast(jax.Array, vqvae.encoder.apply(variables['encoder'], batch['x'], train=True))
    outputs = vqvae.quantizer.apply(variables['quantizer'], z, True, mutable=['codebook'])
    quantized, stats = cast(tuple[Quantized, dict], outputs)
    output = cast(jax.Array, vqvae.decoder.apply(variables['decoder'], quantized.codes, train=True))
    offered = {
        'reconstruction': mean_squared_error(output, batch['x']) / vqvae.variance,
        'commitment': quantization.commitment(z, quantized.entries),
        'perplexity': quantization.perplexity(quantized.usage),
    }
    if not vqvae.quantizer.decay:
        offered['codebook'] = quantization.codebook(z, quantized.entries)
    return offered, {'quantizer': stats}


def encode_continuous(vqvae: VQVAE, variables: Variables, batch: Batch, keys: jax.Array | None = None) -> jax.Array:
    """Encodes to the grid [B, h, w, D] before quantisation. The keys are ignored."""
    return cast(jax.Array, vqvae.encoder.apply(variables['encoder'], batch['x']))


def decode_continuous(vqvae: VQVAE, variables: Variables, z: jax.Array) -> jax.Array:
    """Quantises a grid [B, h, w, D] and decodes it to images [B, H, W, C]."""
    return _decode_entries(vqvae, variables, _quantize(vqvae, variables, z).entries)


def encode(vqvae: VQVAE, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes images as indices of codebook entries, int32 [B, h, w]."""
    return _quantize(vqvae, variables, encode_continuous(vqvae, variables, batch)).indices


def decode(vqvae: VQVAE, variables: Variables, indices: jax.Array) -> jax.Array:
    """Decodes indices int32 [B, h, w] to images [B, H, W, C]."""
    entries = vqvae.quantizer.apply(variables['quantizer'], indices, method='look_up')
    return _decode_entries(vqvae, variables, entries)


def measure(vqvae: VQVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures squared_error of images in [0, 1], relative_error and commitment.

    relative_error is the mean squared error divided by the variance of the data.
    """
    z = encode_continuous(vqvae, variables, batch)
    entries = _quantize(vqvae, variables, z).entries
    output = _decode_entries(vqvae, variables, entries)
    return {
        'squared_error': squared_error(output, batch['x']) / 4,  # rescaled to images in [0, 1]
        'relative_error': mean_squared_error(output, batch['x']) / vqvae.variance,
        'commitment': quantization.commitment(z, entries),
    }


def reconstruct(vqvae: VQVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Reconstructs images from their quantised codes."""
    return {'input': batch['x'], 'output': decode(vqvae, variables, encode(vqvae, variables, batch))}


def _quantize(vqvae: VQVAE, variables: Variables, z: jax.Array) -> Quantized:
    """Quantises a grid [B, h, w, D] without training the codebook."""
    return cast(Quantized, vqvae.quantizer.apply(variables['quantizer'], z, False))


def _decode_entries(vqvae: VQVAE, variables: Variables, entries: Any) -> jax.Array:
    """Decodes codebook entries [B, h, w, D] to images [B, H, W, C]."""
    return cast(jax.Array, vqvae.decoder.apply(variables['decoder'], entries))


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
        trains=('encoder', 'quantizer', 'decoder'),
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
        names=('encoder', 'quantizer', 'decoder'),
    )


def from_config(config: ConfigDict, axis: str | None = None) -> VQVAE:
    """Makes the VQ-VAE of `config.model`, see `settings`."""
    check(config)
    model = config.model
    quantizer = Quantizer(model.entries, model.latent_size, model.decay, patience=model.patience, axis=axis)
    encoder, decoder, halvings = choices.bind(NETWORKS, model.networks, 'config.model.networks')(config)
    side = config.data.resolution // 2**halvings
    return VQVAE(encoder, quantizer, decoder, (side, side, model.latent_size), model.variance)


def check(config: ConfigDict) -> None:
    """Raises ConfigError if parts of the config contradict each other."""
    side = config.data.resolution
    halvings = choices.bind(NETWORKS, config.model.networks, 'config.model.networks')(config)[-1]
    if side % 2**halvings:
        raise ConfigError(
            f'config.data.resolution={side} cannot be halved {halvings} times: take a multiple of {2**halvings}'
        )
    if 'vae' in config.losses and (config.model.decay == 0) != ('codebook' in config.losses.vae):
        raise ConfigError(
            f'config.model.decay={config.model.decay}: a codebook learns by moving averages, or from gradients: '
            'set config.losses.vae.codebook if and only if the decay is 0'
        )


def _residual(
    config: ConfigDict, *, width: int, halvings: int, blocks: int, inner: int = 0, use_bias: bool = True
) -> tuple[nn.Module, nn.Module, int]:
    dtype = jnp.dtype(config.model.dtype)
    sizes = dict(halvings=halvings, blocks=blocks, inner=inner, use_bias=use_bias, dtype=dtype)
    encoder = ResidualEncoder(width, config.model.latent_size, **sizes)
    return encoder, ResidualDecoder(width, config.data.channels, **sizes), halvings


def _spatial(
    config: ConfigDict, *, width: int, multipliers: tuple[int, ...], blocks: int
) -> tuple[nn.Module, nn.Module, int]:
    size = config.model.latent_size
    sizes = dict(multipliers=tuple(multipliers), blocks=blocks, dtype=jnp.dtype(config.model.dtype))
    encoder = SpatialEncoder(width, size, variance=False, **sizes)
    return encoder, SpatialDecoder(width, size, example_shape(config), None, **sizes), len(multipliers) - 1


# Name -> (encoder, decoder, halvings of the side) of a config; the keyword arguments are the options.
NETWORKS: dict[str, Callable[..., tuple[nn.Module, nn.Module, int]]] = {'residual': _residual, 'spatial': _spatial}
