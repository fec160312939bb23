"""VQ-VAE (van den Oord et al. 2017) on scikit-learn's handwritten digits, 16x16: a 4x4 grid, a codebook of 64 entries.

    python -m genlab.main --config=configs/vq_vae.py

Expect an error of 0.02 of the variance (27.3 dB) on held-out digits at 96 bits per digit. Expect a perplexity of about
53 of 64 entries, all in use. The run takes 2.5 minutes with the evaluation on two shared cores.

The variant cifar10 has reference figures: 364,160 parameters of the encoder, 8,256 of the code layer, 290,307 of the
decoder. After 10,000 steps the error is 0.056 of the variance, or 0.093 with the commitment. The perplexity is about
326 of 512.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import quantized
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('vq_vae')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    config.model.update(
        quantized.settings(
            named('residual', width=32, halvings=2, blocks=2), named('codebook', entries=64, latent_size=16)
        )
    )
    config.losses.vae = dict(reconstruction=1.0, commitment=0.25, perplexity=0.0)
    config.optimizer.vae = adam(1e-3)
    config.train.update(steps=2000, steps_per_call=10, log_every=100, sample_every=500, evaluate_every='end')
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def gradients(config):
    """The codebook learned by gradients of the loss of the paper (equation 3)."""
    config.model.quantizer.decay = 0.0
    config.losses.vae.codebook = 1.0


def spatial(config):
    """The networks of configs/vae.py:spatial with a codebook.

    It is the first stage of configs/latent_diffusion.py:vq,frozen."""
    config.model.networks = named('spatial', width=8, multipliers=(1, 2, 4), blocks=1)
    config.model.quantizer.update(entries=256, latent_size=4)
    config.optimizer.vae = adam(2e-3, clip=1.0, warmup=100)
    config.train.update(steps=1000)


def single(config):
    """Scenes with one shape, 32x32, without the combinations of kind, colour and place that are held out: for dalle.py.

    A grid of 8x8 entries of 256."""
    config.data.update(source='scenes', resolution=32, channels=3, shapes=1, hold_out=True, resident=False)
    config.model.networks.width, config.model.quantizer.entries = 64, 256
    config.train.update(steps=3000, sample_every=1000)


def fine(config):
    """1,024 entries and wider networks, for an accelerator.

    Of the kinds of shapes, `single,fine` keeps 96 % and `single` 72 %."""
    config.data.batch_size = 128
    config.model.networks.update(width=128, blocks=3)
    config.model.quantizer.entries = 1024
    config.optimizer.vae = adam(5e-4)
    config.train.update(steps=20_000, steps_per_call=20, log_every=1000, sample_every=5000)


def mnist(config):
    """MNIST at 28x28, with a 7x7 grid of entries."""
    configs.tfds(config, 'mnist', 28)
    config.data.update(batch_size=128)
    config.model.networks.width, config.model.quantizer.entries = 64, 128
    config.train.update(steps=5000)
    config.evaluate.count = 10_000


def cifar10(config):
    """CIFAR-10, with an 8x8 grid of entries."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=32, resident=False)
    config.model.networks.width = 128
    config.model.quantizer.update(entries=512, latent_size=64)
    config.optimizer.vae = adam(3e-4)
    config.train.update(steps=10_000, steps_per_call=1, sample_every=2500)
    config.checkpoint.every = 1000
    config.evaluate.count = 10_000


def rectified(config):
    """Residual blocks of a public PyTorch implementation: without biases, and added to the ReLU of their input.

    Its weights need them: cifar10,rectified."""
    config.model.networks.update(use_bias=False, rectified=True)


VARIANTS = configs.variants(gradients, spatial, single, fine, mnist, cifar10, rectified)
