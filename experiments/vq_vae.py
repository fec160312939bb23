"""Vector-quantised autoencoders (van den Oord et al. 2017): one player that trains an encoder, a codebook and a decoder.

Terms of `vae`, each a mean over the numbers of an example: reconstruction (the squared error over the variance of the data),
commitment (weight beta, 0.25), codebook (weight 1, where the codebook is learned by gradients). perplexity, of the batch: for a
weight of 0, with which it is reported."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose
from genlab.losses import quantization
from genlab.losses.denoising import mean_squared_error
from genlab.losses.reconstruction import squared_error
from genlab.networks.autoencoders.residual import ResidualDecoder, ResidualEncoder
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.networks.layers.quantizer import Quantizer
from genlab.training.state import Network


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: networks ('residual', with width, halvings of the side (one or more), blocks, or 'spatial', with width,
    multipliers and blocks); of the codebook its entries, their latent_size, decay (of moving averages; 0: by gradients) and
    patience (batches without use after which an entry starts again; 0: never); variance (that of images in [-1, 1]).

    Codes are the entries' numbers, int32 [B, h, w]."""
    start, objectives, abilities = parts(config, axis)
    return compose(config, axis, start, objectives, codebook=config.model.entries, **abilities)


def parts(config: ConfigDict, axis: str | None = None) -> tuple[Callable, dict, dict]:
    """(batch -> networks, objectives, abilities) for `compose`, alone or among those of a larger experiment."""
    check(config)
    model = config.model
    encoder, quantizer, decoder = networks(config, axis)

    def objective(variables, batch, keys, step):
        z = encoder.apply(variables['encoder'], batch['x'], train=True)
        found, statistics = quantizer.apply(variables['quantizer'], z, True, mutable=['codebook'])
        output = decoder.apply(variables['decoder'], found.codes, train=True)
        terms = {
            'reconstruction': mean_squared_error(output, batch['x']) / model.variance,
            'commitment': quantization.commitment(z, found.entries),
            'perplexity': quantization.perplexity(found.usage),
        }
        if not model.decay:
            terms['codebook'] = quantization.codebook(z, found.entries)
        return terms, {'quantizer': statistics}

    def encode(variables, batch):
        return quantizer.apply(variables['quantizer'], encoder.apply(variables['encoder'], batch['x']), False).indices

    def decode(variables, indices):
        return decoder.apply(variables['decoder'], quantizer.apply(variables['quantizer'], indices, method='look_up'))

    def measure(variables, batch, keys):
        z = encoder.apply(variables['encoder'], batch['x'])
        entries = quantizer.apply(variables['quantizer'], z, False).entries
        output = decoder.apply(variables['decoder'], entries)
        return {
            'squared_error': squared_error(output, batch['x']) / 4,  # of images in [0, 1]
            'relative_error': mean_squared_error(output, batch['x']) / model.variance,
            'commitment': quantization.commitment(z, entries),
        }

    def reconstruct(variables, batch, keys):
        return {'input': batch['x'], 'output': decode(variables, encode(variables, batch))}

    def start(batch):
        z = jnp.zeros((len(batch['x']), *grid(config)))
        return {
            'encoder': Network(encoder, (batch['x'],)),
            'quantizer': Network(quantizer, (z, False)),
            'decoder': Network(decoder, (z,)),
        }

    return (
        start,
        {'vae': (('encoder', 'quantizer', 'decoder'), objective)},
        dict(measure=measure, encode=encode, decode=decode, reconstruct=reconstruct),
    )


def continuous(config: ConfigDict) -> tuple[tuple[int, int, int], Callable, Callable]:
    """(their shape [h, w, D], encode, decode) of codes before quantisation, which the decoder begins with (Rombach et al. 2022,
    section 3.1): of a diffusion over them this is the first stage.

    encode: (variables, batch, keys [B] or None) -> codes [B, h, w, D]; decode: (variables, codes [B, h, w, D]) -> images."""
    encoder, quantizer, decoder = networks(config)

    def encode(variables, batch, keys):
        return encoder.apply(variables['encoder'], batch['x'])

    def decode(variables, codes):
        return decoder.apply(variables['decoder'], quantizer.apply(variables['quantizer'], codes, False).entries)

    return grid(config), encode, decode


def check(config: ConfigDict) -> None:
    """Raises where parts of the config do not fit together."""
    side, halvings = config.data.resolution, 2 ** _halvings(config)
    if side % halvings:
        raise ConfigError(
            f'config.data.resolution={side} cannot be halved {_halvings(config)} times: take a multiple of {halvings}'
        )
    if 'vae' in config.losses and (config.model.decay == 0) != ('codebook' in config.losses.vae):
        raise ConfigError(
            f'config.model.decay={config.model.decay}: a codebook learns by moving averages, or with decay 0 by '
            'config.losses.vae.codebook: have one of them'
        )


def grid(config: ConfigDict) -> tuple[int, int, int]:
    """[h, w, D] of the codes."""
    side = config.data.resolution // 2 ** _halvings(config)
    return side, side, config.model.latent_size


def _halvings(config: ConfigDict) -> int:
    model = config.model
    if model.networks not in ('residual', 'spatial'):
        raise ConfigError(f'config.model.networks={model.networks!r}: choose residual or spatial')
    return model.halvings if model.networks == 'residual' else len(model.multipliers) - 1


def networks(config: ConfigDict, axis: str | None = None) -> tuple[nn.Module, nn.Module, nn.Module]:
    """(encoder, quantizer, decoder)."""
    model, channels = config.model, config.data.channels
    quantizer = Quantizer(model.entries, model.latent_size, model.decay, patience=model.patience, axis=axis)
    if model.networks == 'residual':
        sizes = dict(halvings=model.halvings, blocks=model.blocks, dtype=jnp.dtype(model.dtype))
        return (
            ResidualEncoder(model.width, model.latent_size, **sizes),
            quantizer,
            ResidualDecoder(model.width, channels, **sizes),
        )
    sizes = dict(multipliers=tuple(model.multipliers), blocks=model.blocks, dtype=jnp.dtype(model.dtype))
    shape = (config.data.resolution, config.data.resolution, channels)
    return (
        SpatialEncoder(model.width, model.latent_size, variance=False, **sizes),
        quantizer,
        SpatialDecoder(model.width, model.latent_size, shape, None, **sizes),
    )
