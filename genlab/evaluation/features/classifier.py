"""A small convolutional classifier that is trained once per labelled data set: what generated images are judged by.

It is deterministic, works for one channel and offline, and is kept outside the run, so that runs are judged alike."""

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from genlab import data
from genlab.data.cache import cached
from genlab.evaluation.blocks import in_blocks

VERSION = 1  # of the code below that the numbers here do not tell: another number trains another classifier
WIDTHS, STEPS, BATCH, SHIFT = (16, 32, 64), 1000, 128, 0.06
BLOCK = 500  # images that are judged at a time


class Network(nn.Module):
    """Images [B, H, W, C] in [-1, 1] -> (logits [B, classes], features [B, 128])."""

    classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images
        for width in WIDTHS:
            x = nn.relu(nn.Conv(width, (3, 3), strides=(2, 2))(x))
        features = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.classes)(features), features


class Classifier(NamedTuple):
    """A trained network and how good it is."""

    classes: tuple[str, ...]
    accuracy: float  # on the test split
    params: Any

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Images [N, H, W, C] in [-1, 1] -> probabilities [N, classes]."""
        return self.classify(self.features(images))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Images [N, H, W, C] in [-1, 1] -> features [N, 128]."""
        return in_blocks(lambda block: features(self.params, block), images, BLOCK)

    def classify(self, features: np.ndarray) -> np.ndarray:
        """Features [N, 128] -> probabilities [N, classes]."""
        last = self.params['Dense_1']
        return np.asarray(jax.nn.softmax(features @ np.asarray(last['kernel']) + np.asarray(last['bias'])))


def load(config_data) -> Classifier:
    """The classifier of a labelled data set at the config's resolution and channels, trained now if it is not in the cache."""
    train, test = data.load(config_data, 'train'), data.load(config_data, 'test')
    classes = train.classes or tuple(map(str, range(int(train.fields['label'].high) + 1)))
    first = zlib.crc32(train.rows(np.arange(min(len(train), BATCH)))['image'].tobytes())  # names alone get mixed up
    key = {
        'recipe': [VERSION, WIDTHS, STEPS, BATCH, SHIFT],
        'train': train.name,
        'examples': len(train),
        'shape': list(train.fields['image'].shape),
        'first': first,
    }
    arrays = cached('classifier', key, lambda: _arrays(_fit(train, len(classes))))
    classifier = Classifier(classes, 0.0, _params(arrays))
    held_out = test.rows(np.arange(min(len(test), 10_000)))
    right = classifier.probabilities(_floats(held_out['image'])).argmax(1) == held_out['label']
    return classifier._replace(accuracy=float(right.mean()))


def _fit(source: data.Source, classes: int) -> Any:
    """Adam with a cosine to zero, 1,000 batches of 128, each image shifted by up to 6 % of its side."""
    network, batches = Network(classes), data.Batches(source, BATCH, seed=0)
    shape = source.fields['image'].shape
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, *shape)))['params']
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, STEPS))
    most = max(1, round(SHIFT * shape[0]))

    @jax.jit
    def step(params, moments, number, images, labels):
        shifts = jax.random.randint(jax.random.fold_in(jax.random.key(1), number), (BATCH, 2), -most, most + 1)
        images = jax.vmap(lambda image, shift: jnp.roll(image, shift, (0, 1)))(
            images.astype(jnp.float32) / 127.5 - 1, shifts
        )

        def loss(params):
            logits, _ = network.apply({'params': params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments

    moments = optimizer.init(params)
    for number in range(STEPS):
        batch = batches(number)
        params, moments = step(params, moments, number, batch['image'][0], batch['label'][0])
    return params


@jax.jit
def features(params: Any, images: jax.Array) -> jax.Array:
    """Images [N, H, W, C] in [-1, 1] -> features [N, 128], of the parameters of a `Network`."""
    return Network(params['Dense_1']['bias'].shape[0]).apply({'params': params}, images)[1]


def _floats(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 127.5 - 1


def _arrays(params: Any) -> dict[str, np.ndarray]:
    """Parameters as a flat dict, 'Conv_0.kernel' -> array."""
    return {'.'.join(key.key for key in path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


def _params(arrays: dict[str, np.ndarray]) -> dict:
    """The inverse of `_arrays`."""
    params: dict = {}
    for name, array in arrays.items():
        layer, part = name.split('.')
        params.setdefault(layer, {})[part] = jnp.asarray(array)
    return params
