"""A small convolutional classifier, trained once per labelled data set, that describes generated images.

Its features and classes are what evaluation compares. Training is deterministic, works for one channel and offline. The
classifier is cached outside the run, so all runs on one machine share it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import data
from genlab.data import fingerprint
from genlab.data.cache import cached
from genlab.data.sources.messages import say
from genlab.evaluation.blocks import in_blocks
from genlab.losses.perceptual import feature_distance

VERSION = 1  # version of everything that the constants below do not describe; a change retrains all classifiers
WIDTHS = (16, 32, 64)  # channels of the convolutions
STEPS = 1000  # training steps
BATCH = 128  # examples per step
SHIFT = 0.06  # the largest augmentation shift, as a share of an image's side
BLOCK = 500  # images that are classified at a time


class Network(nn.Module):
    """Classifies images [B, H, W, C] in [-1, 1]: returns (logits [B, classes], features [B, 128]).

    The feature maps of its convolutions are sown into the collection `intermediates`, for losses that compare them.
    """

    classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images
        for width in WIDTHS:
            x = nn.relu(nn.Conv(width, (3, 3), strides=(2, 2))(x))
            self.sow('intermediates', 'maps', x)
        features = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.classes)(features), features


class Classifier(NamedTuple):
    """A trained network, its classes, and its test accuracy."""

    classes: tuple[str, ...]
    accuracy: float  # on the test split
    params: Any

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns class probabilities [N, classes] of images [N, H, W, C] in [-1, 1]."""
        return self.classify(self.features(images))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns features [N, 128] of images [N, H, W, C] in [-1, 1]."""
        return in_blocks(lambda block: features(self.params, block), images, BLOCK)

    def classify(self, features: np.ndarray) -> np.ndarray:
        """Returns class probabilities [N, classes] of features [N, 128]."""
        last = self.params['Dense_1']
        return np.asarray(jax.nn.softmax(features @ np.asarray(last['kernel']) + np.asarray(last['bias'])))


def load(config_data: ConfigDict) -> Classifier:
    """Loads the classifier of a labelled data set, at the resolution and channels of `config_data`; see `trained`."""
    return trained(data.load(config_data, 'train'), data.load(config_data, 'test'))


def trained(train: data.Source, test: data.Source) -> Classifier:
    """Loads the classifier of the fields `image` and `label` of a training set.

    It is trained first if the cache does not have it.

    Args:
      train: the training set.
      test: held-out examples, on whose first 10,000 the accuracy is measured.
    """
    classes = train.classes or tuple(map(str, range(int(train.fields['label'].high) + 1)))
    key = {
        'recipe': [VERSION, WIDTHS, STEPS, BATCH, SHIFT],
        'data': fingerprint.of(train).digest,
        'shape': list(train.fields['image'].shape),
    }
    arrays = cached('classifier', key, lambda: _arrays(_fit(train, len(classes))))
    classifier = Classifier(classes, 0.0, _params(arrays))
    held_out = test.rows(np.arange(min(len(test), 10_000)))
    correct = classifier.probabilities(_floats(held_out['image'])).argmax(1) == held_out['label']
    return classifier._replace(accuracy=float(correct.mean()))


def _fit(source: data.Source, classes: int) -> Any:
    """Trains the network on 1,000 batches of 128 examples.

    The optimizer is Adam with a cosine schedule to zero. Each image is shifted by up to 6 % of its side.
    """
    say(f'training the classifier of {source.name}, which evaluation needs once per data set')
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
    """Returns features [N, 128] of images [N, H, W, C] in [-1, 1]; `params` are the parameters of a `Network`."""
    outputs: Any = Network(params['Dense_1']['bias'].shape[0]).apply({'params': params}, images)
    return outputs[1]


@jax.jit
def distances(params: Any, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the `feature_distance` [N] of the feature maps of images a, b [N, H, W, C] in [-1, 1]."""
    network = Network(params['Dense_1']['bias'].shape[0])
    one, two = (network.apply({'params': params}, images, mutable=['intermediates'])[1] for images in (a, b))
    return feature_distance(jax.tree.leaves(one), jax.tree.leaves(two))


def log_probabilities(params: Any, images: jax.Array) -> jax.Array:
    """Returns log-probabilities [N, classes] of images [N, H, W, C] in [-1, 1], for use in a compiled function."""
    outputs: Any = Network(params['Dense_1']['bias'].shape[0]).apply({'params': params}, images)
    return jax.nn.log_softmax(outputs[0])


def _floats(images: np.ndarray) -> np.ndarray:
    """Converts uint8 images to [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1


def _arrays(params: Any) -> dict[str, np.ndarray]:
    """Flattens parameters to a dict, 'Conv_0.kernel' -> array."""
    return {'.'.join(key.key for key in path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


def _params(arrays: dict[str, np.ndarray]) -> dict:
    """Inverts `_arrays`."""
    params: dict = {}
    for name, array in arrays.items():
        layer, part = name.split('.')
        params.setdefault(layer, {})[part] = jnp.asarray(array)
    return params
