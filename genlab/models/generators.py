"""The networks of a GAN by name: `config.model.networks` is one of these with its options.

Each function takes the config and the name of the device axis, and returns `Networks`.
"""

from collections.abc import Callable

import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import choices
from genlab.models.adversarial import Networks
from genlab.networks.adversarial import dcgan, dense, progressive, r3gan, resnet, stylegan, stylegan2
from genlab.networks.layers.mlp import MLP


def networks(config: ConfigDict, axis: str | None) -> Networks:
    """Returns the networks of `config.model.networks`."""
    return choices.bind(NETWORKS, config.model.networks, 'config.model.networks')(config, axis)


def _dense(config: ConfigDict, axis: str | None, *, features: tuple[int, ...]) -> Networks:
    """Returns dense networks of points if the config gives their dimensions, else of images.

    The discriminator of images has the layers in reverse order.
    """
    dtype = jnp.dtype(config.model.dtype)
    if config.model.dimensions:
        return Networks(MLP((*features, config.model.dimensions), dtype=dtype), MLP((*features, 1), dtype=dtype))
    shape = config.data.resolution, config.data.resolution, config.data.channels
    return Networks(dense.Generator(features, shape, dtype), dense.Discriminator(features[::-1], dtype))


def _dcgan(
    config: ConfigDict,
    axis: str | None,
    *,
    width: int,
    generator: str = 'concatenation',  # how the label enters: or 'normalization'
    discriminator: str = 'concatenation',  # or 'projection' or 'classification'
) -> Networks:
    shared = dict(resolution=config.data.resolution, width=width, axis=axis, dtype=jnp.dtype(config.model.dtype))
    made = dcgan.Generator(
        channels=config.data.channels, latent_size=config.model.latent_size, condition=generator, **shared
    )
    return Networks(made, dcgan.Discriminator(condition=discriminator, **shared))


def _resnet(config: ConfigDict, axis: str | None, *, width: int, spectral: bool, critic_width: int = 0) -> Networks:
    """Returns residual networks. The discriminator sums its features with `spectral`, else it averages them.

    critic_width: channels of the discriminator; 0: `width`.
    """
    shared = dict(resolution=config.data.resolution, dtype=jnp.dtype(config.model.dtype))
    return Networks(
        resnet.Generator(channels=config.data.channels, width=width, axis=axis, **shared),
        resnet.Discriminator(width=critic_width or width, spectral=spectral, total=spectral, **shared),
    )


def _progressive(
    config: ConfigDict, axis: str | None, *, resolution: int, level: int, base: int, most: int = 512, group: int = 4
) -> Networks:
    """Returns the networks of ProGAN.

    resolution: resolution of the highest level. level: the doublings from 4x4 in use, which a phase raises.
    """
    shared = dict(resolution=resolution, level=level, base=base, most=most, dtype=jnp.dtype(config.model.dtype))
    generator = progressive.Generator(channels=config.data.channels, **shared)
    return Networks(generator, progressive.Discriminator(group=group, **shared), grows=True)


def _stylegan(
    config: ConfigDict,
    axis: str | None,
    *,
    resolution: int,
    level: int,
    base: int,
    most: int = 512,
    group: int = 4,
    width: int = 512,  # width of w
    layers: int = 8,  # number of layers of the mapping
) -> Networks:
    shared = dict(resolution=resolution, level=level, base=base, most=most, dtype=jnp.dtype(config.model.dtype))
    return Networks(
        stylegan.Synthesis(channels=config.data.channels, **shared),
        progressive.Discriminator(group=group, smooth=True, **shared),
        stylegan.Mapping(width, layers),
        stylegan.layers(resolution),
        width,
        noisy=True,
        grows=True,
    )


def _stylegan2(
    config: ConfigDict,
    axis: str | None,
    *,
    base: int,
    most: int = 512,
    group: int = 4,
    width: int = 512,  # width of w
    layers: int = 8,  # number of layers of the mapping
    clamp: float = 0.0,  # limit of activations; 0: none
    remat: bool = False,  # store only what goes from one resolution to the next, and recompute the rest for gradients
) -> Networks:
    shared = dict(resolution=config.data.resolution, base=base, most=most, clamp=clamp, remat=remat)
    shared['dtype'] = jnp.dtype(config.model.dtype)
    return Networks(
        stylegan2.Synthesis(channels=config.data.channels, **shared),
        stylegan2.Discriminator(group=group, **shared),
        stylegan.Mapping(width, layers, scale_bias=True),
        stylegan.layers(config.data.resolution),
        width,
        noisy=True,
    )


def _r3gan(
    config: ConfigDict,
    axis: str | None,
    *,
    base: int,
    most: int = 512,
    blocks: int = 2,  # per level
    group_width: int = 8,
    expansion: int = 2,
    embedding: int = 64,  # size of the embedding of the label in the generator; the discriminator's has `most` channels
) -> Networks:
    dtype = jnp.dtype(config.model.dtype)
    shared = (config.data.resolution, base, most, blocks, group_width, expansion)
    return Networks(
        r3gan.Generator(*shared, embedding, dtype, channels=config.data.channels),
        r3gan.Discriminator(*shared, most, dtype),
    )


NETWORKS: dict[str, Callable[..., Networks]] = {
    'dense': _dense,
    'dcgan': _dcgan,
    'resnet': _resnet,
    'progressive': _progressive,
    'stylegan': _stylegan,
    'stylegan2': _stylegan2,
    'r3gan': _r3gan,
}


def grow(config: ConfigDict, sides: tuple[int, ...], steps: tuple[int, ...], fading: float = 0.5, **batch_sizes: int):
    """Makes a run of growing networks: one phase per side, in each of which the newest level fades in.

    Sets `config.phases`, and of the last side `config.data`, the level and the length of the run. Optimizers restart
    with each phase, as in ProGAN.

    Args:
      config: the config to change, whose networks are `progressive` or `stylegan`.
      sides: pixels per side of each phase, doubling, e.g. (8, 16, 32). The first one does not fade.
      steps: the length of each phase.
      fading: share of a phase in which the new level fades in.
      batch_sizes: side, as 'at_8', -> examples per step; the batch size of the config elsewhere.
    """
    overlays, begin = [], 0
    for number, (side, length) in enumerate(zip(sides, steps)):
        overlay: dict[str, object] = {
            'data.resolution': side,
            'data.batch_size': batch_sizes.get(f'at_{side}', config.data.batch_size),
            'model.networks.level': side.bit_length() - 3,
        }
        if number:
            overlay |= {'model.fade': (begin, round(fading * length)), 'restart': ('discriminator', 'generator')}
        begin += length
        overlays.append(overlay if side == sides[-1] else {'until': begin, **overlay})
    config.data.resolution = sides[-1]
    config.model.networks.update(resolution=sides[-1], level=sides[-1].bit_length() - 3)
    config.train.steps = begin
    config.phases = tuple(overlays)
