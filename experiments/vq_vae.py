"""Quantised autoencoders: one player, which trains an encoder, a quantiser and a decoder.

Terms of `vae`: see `genlab.models.quantized.terms`. `config.model`: see `genlab.models.quantized.settings`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.experiment import Experiment, Role, compose
from genlab.models import quantized


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.quantized.settings`."""
    vqvae = quantized.from_config(config, axis)
    return compose(
        config,
        axis,
        partial(quantized.networks, vqvae),
        {'vae': Role(quantized.NAMES, partial(quantized.terms, vqvae), ('quantizer',))},
        codec=quantized.codec(vqvae),
        measure=partial(quantized.measure, vqvae),
        reconstruct=partial(quantized.reconstruct, vqvae),
        tokenizer=quantized.tokenizer(vqvae),
    )
