"""Deep belief network (Hinton, Osindero & Teh 2006) on scikit-learn's digits: the pretraining of deep_ae.py.

    python -m genlab.main --config=configs/dbn.py

Restricted Boltzmann machines are trained one after the other by contrastive divergence of one step, each on the means
of the hidden units below it. The code has Gaussian units of unit variance. Fine-tune the unrolled stack as an
autoencoder (Hinton & Salakhutdinov 2006):

    python -m genlab.main --config=configs/deep_ae.py --config.model.pretrained=runs/dbn

For MNIST both take the variant mnist, and the first run is runs/dbn-mnist. The paper reports a squared error of 3.00.
"""

from genlab import config as configs
from genlab.config import ramp
from genlab.models import belief, boltzmann
from genlab.training.optimizers import sgd


def get_config(variant=''):
    config = configs.defaults('dbn')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=100, resident=True)
    config.model.update(belief.settings((256, 128, 64, 10)))
    config.sample.update(boltzmann.sampling())
    config.train.update(steps_per_call=20, log_every=500, sample_every=0, evaluate_every='end')
    config.checkpoint.every = 2000
    schedule(config, steps=1000, rate=0.1, code_rate=0.01)
    return configs.vary(config, variant, VARIANTS)


def schedule(config, steps, rate, code_rate):
    """Trains each machine for `steps` steps, from the bottom up; the rate decays to a tenth.

    Gaussian units of the code are not bounded, so they learn more slowly, with `code_rate`."""
    machines = [f'machine_{number + 1}' for number in range(len(config.model.features))]
    config.losses, config.optimizer = configs.untyped(), configs.untyped()
    for machine in machines:
        slow = machine == machines[-1] and config.model.code == 'gaussian'
        config.losses[machine] = dict(contrastive=1.0, squared_error=0.0)
        first = code_rate if slow else rate
        config.optimizer[machine] = sgd(ramp(first, first / 10, steps), momentum=0.9, weight_decay=2e-4)
    config.phases = tuple(
        {'train.order': (machine,), **({} if machine == machines[-1] else {'until': steps * (number + 1)})}
        for number, machine in enumerate(machines)
    )
    config.train.update(order=(machines[-1],), steps=steps * len(machines))


def mnist(config):
    """MNIST through TFDS with the layers of the paper, 784-1000-500-250-30."""
    configs.tfds(config, 'mnist', 28)
    config.data.update(resident=False)
    config.model.features = (1000, 500, 250, 30)
    config.train.steps_per_call = 1
    schedule(config, steps=6000, rate=0.05, code_rate=1e-3)
    config.evaluate.count = 10_000


VARIANTS = configs.variants(mnist)
