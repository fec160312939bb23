"""Images from speech (Li et al. 2020) on embedded data: synthetic spoken digits and scikit-learn's, 32x32.

    python -m genlab.main --config=configs/speech2image.py

First a teacher learns the classes of the images, and the encoder of speech learns to embed each clip where the teacher
has its image. Then generator and discriminators train on embeddings of the frozen encoder. Evaluation draws a sample
for each held-out clip, and compares the digit that a classifier sees with the one that is said. Held-out clips are of
a voice that training does not hear (config.data.speaker). See docs/systems/speech2image.md.
"""

from genlab import config as configs
from genlab.models import spoken
from genlab.training.optimizers import adam

ALIGNED = 600  # first steps, which train teacher and speech encoder; generator and discriminators follow


def get_config(variant=''):
    config = configs.defaults('spoken')
    config.data.update(source='speech', speaker='tenor', resolution=32, channels=1, batch_size=32)
    config.model.update(spoken.settings())
    config.losses.teacher = dict(classification=1.0, accuracy=0.0)
    config.losses.speech = dict(triplet=1.0, triplet_same=0.1, distillation=1.0, direction_error=0.1, recall=0.0)
    config.losses.discriminator = dict(adversarial=1.0, mismatched=1.0, unconditional=1.0, logit_gap=0.0)
    config.losses.generator = dict(adversarial=1.0, unconditional=1.0, kl=2 / 32)
    config.optimizer.teacher = adam(1e-3)
    config.optimizer.speech = adam(1e-3, clip=1.0)
    config.optimizer.discriminator = adam(2e-4, b1=0.5)
    config.optimizer.generator = adam(2e-4, b1=0.5)
    config.average.generator = 0.998
    _steps(config, ALIGNED, 3000)
    return configs.vary(config, variant, VARIANTS)


def _steps(config, aligned, adversarial):
    """Trains the encoders for the first steps, then the generator and the discriminators."""
    config.phases = (
        {'until': aligned, 'train.order': ('teacher', 'speech')},
        {'train.order': ('discriminator', 'generator')},
    )
    config.train.update(
        order=('discriminator', 'generator'),
        steps=aligned + adversarial,
        log_every=100,
        sample_every=adversarial // 2,
        evaluate_every='end',
    )


def mnist(config):
    """Recorded digits of the Free Spoken Digit set, whose folder is config.data.dir, with images of MNIST.

    MNIST is prepared by TFDS in config.data.images_dir; '' is its default."""
    config.data.update(dir='free-spoken-digit-dataset/recordings', name='mnist', speaker='theo')
    config.model.speech.dropout = 0.2
    _steps(config, 2000, 10_000)
    config.sample.chunk = 256


def paper(config):
    """The published generator: three stages of sides 64, 128 and 256 in colour, on an embedding of 1,024 values.

    It has 21,239,696 parameters. The paper's data are descriptions of birds and flowers, which no source here reads.
    """
    config.data.update(resolution=256, channels=3, batch_size=24)
    config.model.update(embedding_size=1024, condition_size=128, latent_size=100, stages=3)
    config.model.speech.update(width=128, layers=4, features=512, dropout=0.5)
    config.model.teacher.width = 32
    config.model.generator.update(width=64, blocks=2)
    config.model.discriminator.width = 64
    config.losses.generator.kl = 2 / 128
    config.average.generator = 0.999
    config.optimizer.speech.learning_rate = 1e-3
    _steps(config, 20_000, 220_000)
    config.train.update(sample_every=5000, log_every=500, evaluate_every=0)


VARIANTS = configs.variants(mnist, paper)
