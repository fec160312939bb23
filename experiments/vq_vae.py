"""Vector-quantised autoencoders: one player, which trains an encoder, a codebook and a decoder.

Terms of `vae`: see `genlab.models.quantized.terms`. `config.model`: see `genlab.models.quantized.from_config`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec
from genlab.experiment import Experiment, Role, compose
from genlab.models import quantized


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.quantized.from_config`."""
    vqvae = quantized.from_config(config, axis)
    continuous = Codec(partial(quantized.decode_continuous, vqvae), encode=partial(quantized.encode_continuous, vqvae))
    return compose(
        config,
        axis,
        partial(quantized.networks, vqvae),
        {'vae': Role(('encoder', 'quantizer', 'decoder'), partial(quantized.terms, vqvae), ('quantizer',))},
        codec=Codec(
            partial(quantized.decode, vqvae),
            encode=partial(quantized.encode, vqvae),
            entries=vqvae.entries,
            continuous=continuous,
        ),
        measure=partial(quantized.measure, vqvae),
        reconstruct=partial(quantized.reconstruct, vqvae),
        tokenizer=quantized.tokenizer(vqvae),
    )
