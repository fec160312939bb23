"""Latent diffusion (Rombach et al. 2022): a denoiser of the codes of an autoencoder that no longer learns.

The terms of `denoiser` are those of experiments/diffusion.py. The autoencoder is that of experiments/variational.py with codes
on a grid, or that of experiments/vq_vae.py, whose codes are those before quantisation, a part of its decoder here: another
run's, or trained first by the player `vae`, whose terms are those there. Its networks lie in the state beside the denoiser
either way, so that a checkpoint is complete."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import diffusion, variational, vq_vae
from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose
from genlab.networks.layers.latent_scale import LatentScale
from genlab.training import pretrained
from genlab.training.state import Network

FLAG = 'config.model.first_stage'


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: as of diffusion (genlab.diffusion.settings), and

    autoencoder: what `config.model` is in experiments/variational.py, with networks='spatial', or, if it has entries of a
    codebook, in experiments/vq_vae.py.
    first_stage: the folder of the run that it is from; '': config.phases train it first, by `vae`, and then `denoiser`.
    scale_steps: the denoiser's first steps, over which the deviation of the codes is measured.

    Codes are those of the autoencoder, [B, D], and `prior` draws them by diffusion."""
    check(config)
    first, family = first_stage(config), vq_vae if has_codebook(config) else variational
    make_first, learns, autoencoder = family.parts(first, axis)
    shape, encode, decode = family.continuous(first)
    scale = LatentScale(config.model.scale_steps, axis)

    def into(variables, batch, keys, train):
        """A draw of the codes of each example, at about unit variance."""
        codes = encode(variables, batch, keys)
        deviation, statistics = scale.apply(variables['scale'], codes, train, mutable=['latents'])
        return codes / deviation, {'scale': statistics}

    def out_of(variables, x):
        """The codes [B, D] that x [B, *shape] are at unit variance."""
        codes = x.reshape(len(x), -1)
        return codes * scale.apply(variables['scale'], codes, False)

    def image(variables, codes):
        return decode(variables, codes.reshape(len(codes), *shape))

    def networks(batch):
        return {**make_first(batch), 'scale': Network(scale, (jnp.zeros((len(batch['x']), *shape)), False))}

    def decoded(ability):
        """The same, of images."""
        return lambda variables, *given: image(variables, ability(variables, *given))

    def measure(variables, batch, keys):
        return {**autoencoder['measure'](variables, batch, keys), **denoises['measure'](variables, batch, keys)}

    def adopt(state, placement):
        run, variables = pretrained.load(config.model.first_stage, placement, FLAG)
        pretrained.expect(run, config.model.autoencoder, FLAG, 'config.model.autoencoder')
        return pretrained.adopt(state, {name: variables[name] for name in learns['vae'][0]})

    space = diffusion.Space(shape, into, out_of, networks, trains=('scale',))
    make, objectives, denoises = diffusion.parts(config, space)
    made = {name: decoded(denoises[name]) for name in ('sample', 'inpaint', 'redraw') if name in denoises}
    return compose(
        config,
        axis,
        make,
        objectives if config.model.first_stage else {**learns, **objectives},
        **made,
        prior=lambda variables, keys: denoises['sample'](variables, keys, None),
        measure=measure,
        decode=image,
        encode=lambda variables, batch: encode(variables, batch, None).reshape(len(batch['x']), -1),
        reconstruct=autoencoder['reconstruct'],
        adopt=adopt if config.model.first_stage else None,
    )


def first_stage(config: ConfigDict) -> ConfigDict:
    """The autoencoder's config: this one, with its model."""
    config = config.copy_and_resolve_references()
    config.model = ConfigDict({'dtype': config.model.dtype, **config.model.autoencoder})
    return config


def has_codebook(config: ConfigDict) -> bool:
    return 'entries' in config.model.autoencoder


def check(config: ConfigDict) -> None:
    """Raises where parts of the config do not fit together."""
    if config.model.autoencoder.networks != 'spatial' and not has_codebook(config):
        raise ConfigError("config.model.autoencoder.networks: codes lie on a grid only where it is 'spatial'")
    if bool(config.model.first_stage) == ('vae' in config.losses):
        raise ConfigError(
            f'{FLAG}={config.model.first_stage!r} and a player vae (config.losses, config.optimizer, its turns '
            'in config.phases) exclude each other: have one of them, as configs/latent_diffusion.py:frozen'
        )
    if config.model.bound != 'none':
        raise ConfigError(
            f'config.model.bound={config.model.bound!r} is one of 8-bit levels, not of codes: set it to none'
        )
