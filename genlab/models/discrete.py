"""Discrete variational autoencoders (Ramesh et al. 2021, section 2.1): categorical latents on a grid.

Training replaces a draw from the posterior by a Gumbel-softmax relaxation (Jang et al. 2017) whose temperature falls.
Codes are the most probable entries, int32 [B, h, w].

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
from genlab.abilities import Batch, Codec, Variables
from genlab.config import check_ramp, schedule
from genlab.losses import divergences, likelihoods, quantization
from genlab.losses.reconstruction import squared_error
from genlab.models.quantized import check
from genlab.models.tokenizer import Tokenizer
from genlab.networks.autoencoders import dalle
from genlab.networks.layers.quantizer import usage
from genlab.noise import stream
from genlab.training.players import Schedule
from genlab.training.state import Network

NAMES = ('encoder', 'decoder')  # names of the networks


def settings(networks: ConfigDict, quantizer: ConfigDict) -> dict[str, Any]:
    """Returns `config.model` of a discrete VAE."""
    return dict(
        networks=networks,  # named: dalle, see NETWORKS
        quantizer=quantizer,  # named: gumbel, see QUANTIZERS
        epsilon=0.1,  # images in [-1, 1] are mapped to [epsilon, 1 - epsilon] for encoder and likelihood
    )


class Gumbel(NamedTuple):
    """Holds the number of entries of a latent, and the temperature of the relaxation, a number or a schedule."""

    entries: int
    temperature: Schedule


class DiscreteVAE(NamedTuple):
    """Holds an encoder to logits [B, h, w, K] and a decoder of weights [B, h, w, K] to locations and log-scales."""

    encoder: nn.Module
    decoder: nn.Module
    gumbel: Gumbel
    side: int  # h = w
    epsilon: float  # images lie in [epsilon, 1 - epsilon] inside the model
    axis: str | None = None


def networks(vae: DiscreteVAE, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    weights = jnp.zeros((len(batch['x']), vae.side, vae.side, vae.gumbel.entries))
    return {'encoder': Network(vae.encoder, (batch['x'],)), 'decoder': Network(vae.decoder, (weights,))}


def infer(vae: DiscreteVAE, variables: Variables, x: jax.Array, train: bool) -> jax.Array:
    """Encodes images x [B, H, W, C] as logits of the entries, [B, h, w, K]."""
    values = likelihoods.to_open(x, epsilon=vae.epsilon)
    return cast(jax.Array, vae.encoder.apply(variables['encoder'], values, train))


def generate(
    vae: DiscreteVAE, variables: Variables, weights: jax.Array, train: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Decodes weights of the entries [B, h, w, K] to locations and log-scales of pixel logits, [B, H, W, C] each."""
    outputs = cast(jax.Array, vae.decoder.apply(variables['decoder'], weights, train))
    location, log_scale = jnp.split(outputs, 2, -1)
    return location, log_scale


def relax(logits: jax.Array, keys: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """Draws from the Gumbel-softmax distribution, softmax((l + g) / t) (Jang et al. 2017, equation 2).

    Args:
        logits: unnormalised log-probabilities l, [B, ..., K].
        keys: one key per example [B].
        temperature: t > 0. As it falls to 0, the weights become a one-hot draw of the categorical distribution.

    Returns:
        Weights [B, ..., K] in (0, 1), whose sum over K is 1.
    """
    draw = lambda key: jax.random.gumbel(key, logits.shape[1:])
    return jax.nn.softmax((logits + jax.vmap(draw)(stream(keys, 'gumbel'))) / temperature)


def negative_log_likelihood(vae: DiscreteVAE, location: jax.Array, log_scale: jax.Array, x: jax.Array) -> jax.Array:
    """Computes minus the log-density of images x [B, H, W, C] mapped to [epsilon, 1 - epsilon], nats [B]."""
    return likelihoods.logit_laplace(likelihoods.to_open(x, epsilon=vae.epsilon), location, log_scale)


def terms(vae: DiscreteVAE, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the player, nats per example. The relaxed negative ELBO is reconstruction + kl.

    reconstruction: minus the log-likelihood, logit-Laplace.
    kl: KL divergence of the posterior from the uniform prior; at most h w log K.
    perplexity: effective number of entries that the batch uses, a diagnostic of weight 0.
    """
    logits = infer(vae, variables, batch['x'], True)
    temperature = vae.gumbel.temperature
    weights = relax(logits, keys, temperature(step) if callable(temperature) else temperature)
    return {
        'reconstruction': negative_log_likelihood(vae, *generate(vae, variables, weights, True), batch['x']),
        'kl': divergences.uniform_kl(logits).sum((1, 2)),
        'perplexity': quantization.perplexity(usage(logits.argmax(-1), vae.gumbel.entries, vae.axis)),
    }, {}


def encode(vae: DiscreteVAE, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes images as their most probable entries, int32 [B, h, w]."""
    return infer(vae, variables, batch['x'], False).argmax(-1).astype(jnp.int32)


def decode(vae: DiscreteVAE, variables: Variables, codes: jax.Array) -> jax.Array:
    """Decodes entries int32 [B, h, w] to the median of the likelihood, images [B, H, W, C]."""
    location, _ = generate(vae, variables, jax.nn.one_hot(codes, vae.gumbel.entries))
    return likelihoods.from_open(jax.nn.sigmoid(location), epsilon=vae.epsilon)


def measure(vae: DiscreteVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures squared_error of images in [0, 1]; reconstruction and kl in nats, of the most probable entries."""
    logits = infer(vae, variables, batch['x'], False)
    codes = logits.argmax(-1)
    parameters = generate(vae, variables, jax.nn.one_hot(codes, vae.gumbel.entries))
    return {
        'squared_error': squared_error(decode(vae, variables, codes), batch['x']) / 4,  # rescaled to images in [0, 1]
        'reconstruction': negative_log_likelihood(vae, *parameters, batch['x']),
        'kl': divergences.uniform_kl(logits).sum((1, 2)),
    }


def reconstruct(vae: DiscreteVAE, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Reconstructs images from their most probable entries."""
    return {'input': batch['x'], 'output': decode(vae, variables, encode(vae, variables, batch))}


def codec(vae: DiscreteVAE) -> Codec:
    """Returns the codec of entries."""
    return Codec(functools.partial(decode, vae), encode=functools.partial(encode, vae), entries=vae.gumbel.entries)


def tokenizer(vae: DiscreteVAE) -> Tokenizer:
    """Makes the tokenizer of a second stage: one grid of entries."""
    return Tokenizer(
        shapes=(vae.side, vae.side),
        entries=vae.gumbel.entries,
        encode=functools.partial(encode, vae),
        decode=functools.partial(decode, vae),
        networks=functools.partial(networks, vae),
        names=NAMES,
    )


def from_config(config: ConfigDict, axis: str | None = None) -> DiscreteVAE:
    """Makes the discrete VAE of `config.model`, see `settings`."""
    gumbel = choices.bind(QUANTIZERS, config.model.quantizer, 'config.model.quantizer')(config)
    make = choices.bind(NETWORKS, config.model.networks, 'config.model.networks')
    encoder, decoder, halvings = make(config, gumbel.entries)
    check(config, halvings)
    return DiscreteVAE(encoder, decoder, gumbel, config.data.resolution // 2**halvings, config.model.epsilon, axis)


def _dalle(
    config: ConfigDict, entries: int, *, width: int, groups: int = 4, blocks: int = 2, start: int = 128
) -> tuple[nn.Module, nn.Module, int]:
    sizes: dict[str, Any] = dict(width=width, groups=groups, blocks=blocks, dtype=jnp.dtype(config.model.dtype))
    return dalle.Encoder(entries, **sizes), dalle.Decoder(config.data.channels, start=start, **sizes), groups - 1


# Name -> (encoder, decoder, halvings of the side) of a config and the entries; the keyword arguments are the options.
NETWORKS: dict[str, Callable[..., tuple[nn.Module, nn.Module, int]]] = {'dalle': _dalle}


def _gumbel(config: ConfigDict, *, entries: int, temperature: float | ConfigDict) -> Gumbel:
    check_ramp(temperature, 'config.model.quantizer.temperature')
    return Gumbel(entries, schedule(temperature, config.train.steps))


# Name -> entries and relaxation of a config; the keyword arguments are the options.
QUANTIZERS: dict[str, Callable[..., Gumbel]] = {'gumbel': _gumbel}
