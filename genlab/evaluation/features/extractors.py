"""What samples and data are compared by: functions from images or points to vectors, with all that a figure depends on.

`config.evaluate.features` names one. A figure by one is not comparable with a figure by another.

classifier: 128 features of the small classifier of this data set, for images with labels.
random: 128 features of the same network with weights that are drawn and never trained, for any images. Layers of
    random filters keep images apart that differ in their edges and where these are, without having learned what to
    overlook, so distances in them rank models roughly where no trained network fits the data (Naeem et al. 2020,
    "Reliable fidelity and diversity metrics", take a random VGG16 for data far from ImageNet).
inception: 2,048 features of the network that the Frechet inception distance is defined by, from a file of its weights.
pixels: the values as they are, for small images and for points.

Measured on two shared CPU cores with 32x32 images: classifier and random 25,000 images/s, inception 6 to 10.
"""

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
RANDOM_VERSION = 1
INCEPTION_BLOCK = 32  # images of 299x299 at a time


class Extractor(NamedTuple):
    """A judge of samples; all functions take and give numpy arrays of any number N > 0 of examples.

    protocol: plain values that tell which figures are comparable. classify: what `probabilities` gives, of features
    that are already there. probabilities and classify are None, and classes empty, where the features know no classes."""

    name: str  # with its version
    dimensions: int
    protocol: dict
    extract: Callable[[np.ndarray], np.ndarray]  # images [N, H, W, C] in [-1, 1] -> [N, dimensions] float32
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None  # images -> [N, classes]
    classes: tuple[str, ...] = ()
    classify: Callable[[np.ndarray], np.ndarray] | None = None  # features [N, dimensions] -> [N, classes]


def default_for(config: ConfigDict, source: data.Source) -> str:
    """`config.evaluate.features`, and if that is 'auto' what suits the data: classifier, random or, for points, pixels."""
    if config.evaluate.features != 'auto':
        return config.evaluate.features
    if not is_map(source.fields[config.data.observe]):
        return 'pixels'
    return 'classifier' if _labelled(config, source) else 'random'


def load(config: ConfigDict, knows: classifier.Classifier | None = None) -> Extractor:
    """The extractor that `config.evaluate.features` and `features_file` name, for the field that the model models.

    knows: the classifier of these data, where it is loaded already."""
    source = data.load(config.data, 'test')
    kind, observe = default_for(config, source), config.data.observe
    if kind not in KINDS:
        raise ConfigError(
            f'config.evaluate.features={kind} is not known{meant(kind, KINDS)}: choose from {", ".join(KINDS)}'
        )
    if kind != 'pixels' and not is_map(source.fields[observe]):
        raise ConfigError(
            f'config.evaluate.features={kind} is for images, and the {observe} of {source.name} is none: choose pixels'
        )
    if kind == 'classifier':
        if not _labelled(config, source):
            raise ConfigError(
                f'config.evaluate.features=classifier needs images with labels, and the {observe} of '
                f'{source.name} has none: choose random or pixels'
            )
        return from_classifier(knows or classifier.load(config.data))
    if kind == 'inception':
        return from_inception(config.evaluate.features_file)
    shape = source.fields[observe].shape
    return random(shape) if kind == 'random' else pixels(shape)


def from_classifier(judge: classifier.Classifier) -> Extractor:
    """The features of a trained classifier, whose weights are part of the protocol: another machine trains others."""
    protocol = {
        'features': 'classifier',
        'version': classifier.VERSION,
        'weights': checksum(judge.params),
        'test_accuracy': judge.accuracy,
        'input_range': '[-1, 1]',
    }
    return Extractor(
        f'classifier-{classifier.VERSION}',
        128,
        protocol,
        judge.features,
        judge.probabilities,
        judge.classes,
        judge.classify,
    )


def from_inception(path: str) -> Extractor:
    """The features of the Inception network, of images of any size."""
    from genlab.evaluation.features import inception  # here, because it is a command of its own

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

    def extract(images):
        return in_blocks(lambda block: compiled(variables, block), images, INCEPTION_BLOCK)

    def classify(features):
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


def random(shape: tuple[int, int, int]) -> Extractor:
    """The features of the classifier's network with weights after He et al. 2015, for images of one shape [H, W, C].

    They are drawn by numpy's frozen generator from seed 0, so they are the same on every machine."""
    draw = np.random.RandomState(0)
    shapes = jax.eval_shape(classifier.Network(1).init, jax.random.key(0), jnp.zeros((1, *shape)))['params']

    def leaf(array):
        if len(array.shape) == 1:
            return np.zeros(array.shape, np.float32)
        return np.float32(draw.standard_normal(array.shape) * np.sqrt(2 / np.prod(array.shape[:-1])))

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
    )


def pixels(shape: tuple[int, ...]) -> Extractor:
    """The values of an image [H, W, C] or a point [D] as they are, in one row."""
    return Extractor(
        'pixels-1',
        int(np.prod(shape)),
        {'features': 'pixels', 'shape': list(shape)},
        lambda examples: np.asarray(examples, np.float32).reshape(len(examples), -1),
    )


def checksum(params: Any) -> str:
    """The first 8 hexadecimal digits of the SHA-256 of all arrays in their order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:8]


def _labelled(config: ConfigDict, source: data.Source) -> bool:
    return config.data.observe == 'image' and 'label' in source.fields
