"""Latent diffusion (Rombach et al. 2022): an autoencoder learns codes on a grid, then a denoiser learns to sample them.

    python -m genlab.main --config=configs/latent_diffusion.py

The data are handwritten digits at 16x16. The codes form a 4x4 grid with 4 channels. The denoiser is conditioned on the
class. It is a transformer over the 16 positions; the variant `scenes` uses the U-Net of the paper.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.diffusion import settings
from genlab.models import quantized, variational
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('latent_diffusion')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named('transformer', patch=1, width=96, depth=4, heads=4, unrolled=True)
    config.model.update(settings.model(network, classes='auto'))
    config.model.update(
        first_stage='',
        scale_steps=100,
        autoencoder=variational.settings(
            named('spatial', width=8, multipliers=(1, 2, 4), blocks=1),
            latent_size=4,
            likelihood=named('gaussian', scale=0.1),
        ),
    )
    config.losses.vae = dict(reconstruction=1.0, kl=0.01)
    config.losses.denoiser = dict(epsilon=1.0)
    config.optimizer.vae = adam(2e-3, clip=100.0, warmup=100)
    config.optimizer.denoiser = adam(1e-3, clip=1.0)
    config.average.denoiser = 0.999
    _steps(config, vae=1000, denoiser=4000)
    config.sample.update(settings.sample(sampler=named('ddim'), steps=50, guidance=1.5, clip=False, condition=True))
    config.evaluate.parts = ('quality', 'held_out', 'reconstruction')
    config.explore.update(examples=256, inversions=0)
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST at 32x32, with codes on an 8x8 grid with 4 channels."""
    configs.tfds(config, 'mnist', 32)
    config.model.network.update(patch=2, width=128, depth=6)
    _steps(config, vae=2000, denoiser=6000)
    config.sample.chunk = 250
    config.evaluate.count = 10_000


def scenes(config):
    """Text to image: coloured shapes at 32x32, by cross-attention to a caption; half an hour on two cores.

    Scenes have one to four shapes. On data.shapes=1 and data.hold_out=True it compares with dalle.py."""
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=32, fields=('caption',), resident=False)
    config.model.network = _unet()
    config.model.update(classes=0, words='auto')
    config.model.autoencoder.networks.width = 16
    config.average.text = 0.999
    _steps(config, vae=2000, denoiser=5000)
    # A constant rate would leave the noise of the last steps in the weights that are frozen, and in those that sample.
    config.optimizer.vae.learning_rate = configs.ramp(2e-3, 1e-4, steps=2000)
    config.optimizer.denoiser.learning_rate = configs.ramp(1e-3, 5e-5, steps=5000)
    config.optimizer.denoiser.warmup = 200
    config.sample.guidance = 3.0
    config.evaluate.parts = (*config.evaluate.parts, 'scenes')


def single(config):
    """Scenes with one shape, without the combinations of kind, colour and place that dalle.py holds out as well."""
    scenes(config)
    config.data.update(shapes=1, hold_out=True)


def long(config):
    """As single, with larger networks, trained longer: for an accelerator."""
    single(config)
    config.data.update(batch_size=64, resident=True)
    config.model.autoencoder.networks.update(width=32, blocks=2)
    config.model.network.update(width=96, blocks=2)
    _steps(config, vae=10_000, denoiser=30_000)
    config.optimizer.vae.learning_rate = configs.ramp(1e-3, 1e-5, steps=10_000)
    config.optimizer.denoiser.learning_rate = configs.ramp(1e-3, 1e-5, steps=30_000)
    config.optimizer.denoiser.warmup = 500


def frozen(config):
    """The codes of another run, whose folder is config.model.first_stage.

    Train --config=configs/vae.py:spatial first, or for `vq,frozen` --config=configs/vq_vae.py:spatial.
    """
    config.model.first_stage = 'runs/vq_vae-spatial' if 'quantizer' in config.model.autoencoder else 'runs/vae-spatial'
    del config.losses.vae, config.optimizer.vae
    _steps(config, denoiser=4000)


def vq(config):
    """The codes of a vector-quantised autoencoder. Its decoder starts with the codebook."""
    config.model.autoencoder = quantized.settings(
        named('spatial', width=8, multipliers=(1, 2, 4), blocks=1), named('codebook', entries=256, latent_size=4)
    )
    config.losses.vae = dict(reconstruction=1.0, commitment=0.25, perplexity=0.0)
    config.optimizer.vae = adam(2e-3, clip=1.0, warmup=100)


def _unet():
    """Returns a U-Net over an 8x8 grid. Each block with self-attention has cross-attention to the words, too."""
    size = dict(width=64, multipliers=(1, 2), blocks=1, attention=(8, 4), heads=4, dropout=0.0)
    return named('unet', endpoint=False, epsilon=1e-5, stride_padding=(1, 1), **size)


def _steps(config, vae=0, denoiser=0):
    """Trains the autoencoder for `vae` steps, then the denoiser for `denoiser` steps."""
    config.phases = ({'until': vae, 'train.order': ('vae',)}, {'train.order': ('denoiser',)}) if vae else ()
    config.train.update(
        order=('denoiser',),
        steps=vae + denoiser,
        log_every=250,
        sample_every=denoiser // 2,
        evaluate_every='end',
    )
    config.checkpoint.every = 1000


VARIANTS = configs.variants(mnist, scenes, single, long, frozen, vq)
