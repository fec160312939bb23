"""Feature extractors: functions from images or points to vectors, with a protocol of all that a figure depends on.

`config.evaluate.features` names one. Figures with different features do not compare.

classifier: 128 features of the small classifier of this data set, for images with labels.
random: 128 features of the same network with fixed random weights, for any images. Random filters separate images
    that differ in their edges and in edge positions. They have not learned to ignore anything, so distances in them
    rank models roughly where no trained network fits the data. (Naeem et al. 2020, "Reliable fidelity and diversity
    metrics", use a random VGG16 for data far from ImageNet.)
inception: 2,048 features of the network that defines the Frechet inception distance, with weights from a file.
pixels: the values themselves, for small images and for points.

Measured on two shared CPU cores with 32x32 images: classifier and random 25,000 images/s, inception 6 to 10.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.data.transforms import is_map
from genlab.errors import ConfigError, meant
from genlab.evaluation.blocks import in_blocks
from genlab.evaluation.features import classifier

KINDS = ('auto', 'classifier', 'inception', 'random', 'pixels')
RANDOM_VERSION = 1  # version of the random weights; a change invalidates all figures with them
INCEPTION_BLOCK = 32  # images of 299x299 at a time
PAIRS_BLOCK = 100  # pairs of images whose feature maps are compared at a time


class Extractor(NamedTuple):
    """A feature extractor. All functions take and return numpy arrays with any number N > 0 of examples.

    `protocol` has plain values; figures compare only if it is equal. `probabilities` and `classify` are None, and
    `classes` is empty, if the features have no classes.
    """

    name: str  # with its version
    dimensions: int  # number of features
    protocol: dict[str, Any]  # what figures depend on
    extract: Callable[[np.ndarray], np.ndarray]  # images [N, H, W, C] in [-1, 1] -> [N, dimensions] float32
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None  # images -> [N, classes]
    classes: tuple[str, ...] = ()
    classify: Callable[[np.ndarray], np.ndarray] | None = None  # features [N, dimensions] -> [N, classes]
    # Two sets of images [N, H, W, C] -> the distances of their feature maps [N]; None if there are no maps.
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def default_for(config: ConfigDict, source: data.Source) -> str:
    """Returns `config.evaluate.features`, or the default for the data if it is 'auto'.

    The default is 'classifier' for labelled images, 'random' for other images, and 'pixels' for points.
    """
    if config.evaluate.features != 'auto':
        return config.evaluate.features
    if not is_map(source.fields[config.data.observe]):
        return 'pixels'
    return 'classifier' if _labelled(config, source) else 'random'


def load(config: ConfigDict, loaded: classifier.Classifier | None = None) -> Extractor:
    """Loads the extractor that `config.evaluate.features` and `features_file` name, for the field that is modelled.

    Args:
      config: config of the run.
      loaded: the classifier of these data, if it is already loaded.

    Raises:
      ConfigError: the name is unknown, or does not apply to the data.
    """
    source = data.load(config.data, 'test')
    kind, observe = default_for(config, source), config.data.observe
    if kind not in KINDS:
        raise ConfigError(
            f'config.evaluate.features={kind} is not known{meant(kind, KINDS)}: choose from {", ".join(KINDS)}'
        )
    if kind != 'pixels' and not is_map(source.fields[observe]):
        raise ConfigError(
            f'config.evaluate.features={kind} needs images, and {observe} of {source.name} is not an image: '
            'choose pixels'
        )
    if kind == 'classifier':
        if not _labelled(config, source):
            raise ConfigError(
                f'config.evaluate.features=classifier needs images with labels, and {observe} of '
                f'{source.name} has none: choose random or pixels'
            )
        return from_classifier(loaded or classifier.load(config.data))
    if kind == 'inception':
        return from_inception(config.evaluate.features_file)
    shape = source.fields[observe].shape
    return random(shape) if kind == 'random' else pixels(shape)


def from_classifier(trained: classifier.Classifier) -> Extractor:
    """Returns the features of a trained classifier.

    The checksum of its weights is part of the protocol, because training gives slightly different weights on another
    machine.
    """
    protocol = {
        'features': 'classifier',
        'version': classifier.VERSION,
        'weights': checksum(trained.params),
        'test_accuracy': trained.accuracy,
        'input_range': '[-1, 1]',
    }
    return Extractor(
        f'classifier-{classifier.VERSION}',
        128,
        protocol,
        trained.features,
        trained.probabilities,
        trained.classes,
        trained.classify,
        functools.partial(_distances, trained.params),
    )


def from_inception(path: str) -> Extractor:
    """Returns the features of the Inception network, for images of any size; `path`: the file of its weights."""
    from genlab.evaluation.features import inception  # here, because it is also run as a command

    variables, weights = inception.load(path)
    compiled = jax.jit(inception.features)
    protocol = {
        'features': 'inception',
        'network': 'FID Inception v3 of 2015-12-05, pool3',
        'weights': weights,
        'input_size': inception.SIDE,
        'resize': 'bilinear, half-pixel centres, no antialiasing',
        'input_range': '[-1, 1] = (v / 127.5 - 1), rounded to 256 levels',
        'classes': '1008, without bias',
    }

    def extract(images: np.ndarray) -> np.ndarray:
        return in_blocks(lambda block: compiled(variables, block), images, INCEPTION_BLOCK)

    def classify(features: np.ndarray) -> np.ndarray:
        return inception.probabilities(variables, features)

    return Extractor(
        'inception-2015-12-05',
        inception.FEATURES,
        protocol,
        extract,
        lambda images: classify(extract(images)),
        tuple(map(str, range(inception.CLASSES))),
        classify,
    )


def random(shape: tuple[int, ...]) -> Extractor:
    """Returns the features of the classifier network with random weights, for images of one shape [H, W, C].

    The weights follow He et al. 2015. They come from numpy's frozen legacy generator with seed 0, so they are the same
    on every machine.
    """
    draw = np.random.RandomState(0)
    shapes = jax.eval_shape(classifier.Network(1).init, jax.random.key(0), jnp.zeros((1, *shape)))['params']

    def leaf(array: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(array.shape) == 1:
            return np.zeros(array.shape, np.float32)
        return (draw.standard_normal(array.shape) * np.sqrt(2 / np.prod(array.shape[:-1]))).astype(np.float32)

    params = jax.tree.map(leaf, shapes)
    protocol = {
        'features': 'random',
        'version': RANDOM_VERSION,
        'weights': checksum(params),
        'shape': list(shape),
        'input_range': '[-1, 1]',
    }
    return Extractor(
        f'random-{RANDOM_VERSION}',
        128,
        protocol,
        lambda images: in_blocks(lambda block: classifier.features(params, block), images, classifier.BLOCK),
        distances=functools.partial(_distances, params),
    )


def _distances(params: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the distances of the feature maps of images a, b [N, H, W, C] in the classifier network: [N]."""
    compare = lambda both: classifier.distances(params, both[:, 0], both[:, 1])
    parts = [slice(first, first + PAIRS_BLOCK) for first in range(0, len(a), PAIRS_BLOCK)]
    return np.concatenate([in_blocks(compare, np.stack([a[part], b[part]], 1), PAIRS_BLOCK) for part in parts])


def pixels(shape: tuple[int, ...]) -> Extractor:
    """Returns the values of an image [H, W, C] or a point [D], flattened."""
    return Extractor(
        'pixels-1',
        int(np.prod(shape)),
        {'features': 'pixels', 'shape': list(shape)},
        lambda examples: np.asarray(examples, np.float32).reshape(len(examples), -1),
    )


def checksum(params: Any) -> str:
    """Returns the first 8 hexadecimal digits of the SHA-256 of all arrays, in order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:8]


def _labelled(config: ConfigDict, source: data.Source) -> bool:
    """Returns whether the examples are images with class labels."""
    return config.data.observe == 'image' and 'label' in source.fields
