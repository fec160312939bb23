"""Vector-quantised autoencoders (van den Oord et al. 2017): an encoder, a codebook and a decoder.

Codes are indices of codebook entries, int32 [B, h, w].

For the arguments that all families share, see `genlab.models`.
"""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.abilities import Batch, Variables
from genlab.data.source import example_shape
from genlab.errors import ConfigError, choose
from genlab.losses import quantization
from genlab.losses.denoising import mean_squared_error
from genlab.losses.reconstruction import squared_error
from genlab.models.first_stage import FirstStage
from genlab.networks.autoencoders.residual import ResidualDecoder, ResidualEncoder
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.networks.layers.quantizer import Quantized, Quantizer
from genlab.training.state import Network


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


def from_config(config: ConfigDict, axis: str | None = None) -> VQVAE:
    """Makes the VQ-VAE of `config.model`.

    networks: 'residual' (with width, halvings, blocks) or 'spatial' (with width, multipliers, blocks).
    entries: number of codebook entries.
    latent_size: size of an entry.
    decay: decay of the moving averages that train the codebook; with 0, gradients train it.
    patience: number of batches after which an unused entry is reset; 0 disables this.
    variance: variance of images in [-1, 1].
    """
    check(config)
    model = config.model
    quantizer = Quantizer(model.entries, model.latent_size, model.decay, patience=model.patience, axis=axis)
    encoder, decoder = choose(NETWORKS, model.networks, 'config.model.networks')(config)
    side = config.data.resolution // 2 ** _halvings(config)
    return VQVAE(encoder, quantizer, decoder, (side, side, model.latent_size), model.variance)


def check(config: ConfigDict) -> None:
    """Raises ConfigError if parts of the config contradict each other."""
    side, halvings = config.data.resolution, _halvings(config)
    if side % 2**halvings:
        raise ConfigError(
            f'config.data.resolution={side} cannot be halved {halvings} times: take a multiple of {2**halvings}'
        )
    if 'vae' in config.losses and (config.model.decay == 0) != ('codebook' in config.losses.vae):
        raise ConfigError(
            f'config.model.decay={config.model.decay}: a codebook learns by moving averages, or from gradients: '
            'set config.losses.vae.codebook if and only if the decay is 0'
        )


def _halvings(config: ConfigDict) -> int:
    model = config.model
    choose(NETWORKS, model.networks, 'config.model.networks')
    return model.halvings if model.networks == 'residual' else len(model.multipliers) - 1


def _residual(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model = config.model
    sizes = dict(halvings=model.halvings, blocks=model.blocks, dtype=jnp.dtype(model.dtype))
    encoder = ResidualEncoder(model.width, model.latent_size, **sizes)
    return encoder, ResidualDecoder(model.width, config.data.channels, **sizes)


def _spatial(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model = config.model
    sizes = dict(multipliers=tuple(model.multipliers), blocks=model.blocks, dtype=jnp.dtype(model.dtype))
    encoder = SpatialEncoder(model.width, model.latent_size, variance=False, **sizes)
    return encoder, SpatialDecoder(model.width, model.latent_size, example_shape(config), None, **sizes)


NETWORKS = {'residual': _residual, 'spatial': _spatial}
