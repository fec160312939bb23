"""Compares translated images with their true counterparts: pixels, structure, feature maps, and classes of pixels.

It applies to models that are conditioned on an image or a map of classes, on data that hold the counterpart of each
held-out condition. Every figure is also computed for the mean of the training images, and for the untranslated input
where the shapes are equal.
"""

from typing import Any

import numpy as np

from genlab.data.transforms import is_image, is_map
from genlab.evaluation.features import extractors
from genlab.evaluation.metrics import scenes
from genlab.evaluation.metrics.similarity import ssim
from genlab.evaluation.subject import Part, Subject
from genlab.run import images
from genlab.sampling import drawing

AVERAGED = 1000  # most training images in the mean
READ = 200  # most samples whose pixels are classified
SHOWN = 48  # examples in the picture
BLOCK = 256  # training images per read


def applies(subject: Subject) -> bool:
    """Returns whether images are made of other images, or of maps of classes, and the true ones are known."""
    observed = subject.test.fields.get(subject.whole.data.observe)
    return (
        subject.experiment.sampler is not None
        and not subject.coded
        and observed is not None
        and is_map(observed)
        and is_image(observed)
        and not subject.test.domains
        and bool(_given(subject))
    )


def evaluate(subject: Subject) -> Part:
    """Compares the sample of each held-out condition with its counterpart."""
    count, name = subject.held_out, _given(subject)[0]
    observed = 'x' if subject.whole.data.observe == subject.config.data.observe else subject.whole.data.observe
    pairs = subject.over(
        lambda variables, batch, keys: {'given': batch[name], 'truth': batch[observed]}, purpose='translation'
    )
    given, truth = pairs['given'], pairs['truth']
    samples = subject.samples[:count]
    extractor = extractors.load(subject.whole)
    mean, averaged = _mean(subject)
    protocol = {
        'held_out': count,
        'condition': name,
        'mean_of': averaged,
        'distances_by': extractor.protocol if extractor.distances else {},
        **subject.selected,
    }
    shown = {name: drawing.shaped_like(given[:SHOWN], truth), 'sample': samples[:SHOWN], 'truth': truth[:SHOWN]}
    pictures = {'translations': images.pairs(shown)}
    if not np.isfinite(samples).all():
        lost = int((~np.isfinite(samples).all((1, 2, 3))).sum())
        return Part(protocol, {'translation_l1': f'{lost} samples are not finite'}, pictures)
    versions = {'': samples, '_of_mean': np.broadcast_to(mean, truth.shape)}
    if given.dtype.kind == 'f' and given.shape == truth.shape:
        versions['_of_input'] = given
    figures: dict[str, Any] = {}
    for version, made in versions.items():
        figures[f'translation_l1{version}'] = float(np.abs(made - truth).mean()) / 2  # levels in [0, 1]
        figures[f'translation_ssim{version}'] = float(ssim(made, truth).mean())
        if extractor.distances:
            figures[f'translation_distance{version}'] = float(extractor.distances(made, truth).mean())
    if _classes_are_known(subject, name):
        protocol['pixels_of'] = min(count, READ)
        figures |= _classes(samples[:READ], truth[:READ], given[:READ, ..., 0])
    return Part(protocol, figures, pictures)


def _given(subject: Subject) -> list[str]:
    """Returns the fields of pixels that the model is conditioned on."""
    fields, observed = subject.test.fields, subject.whole.data.observe
    names = [name for name in subject.experiment.conditions.fields if name in fields and name != observed]
    return [name for name in names if is_map(fields[name])]


def _mean(subject: Subject) -> tuple[np.ndarray, int]:
    """Returns the mean of at most AVERAGED training images, [H, W, C] in [-1, 1], and their number."""
    source, observe = subject.train, subject.whole.data.observe
    source = next(domain for domain in source.domains or (source,) if observe in domain.fields)
    indices = np.sort(np.random.default_rng(0).permutation(len(source))[:AVERAGED])
    total = sum(
        source.rows(indices[first : first + BLOCK])[observe].sum(0, dtype=np.float64)
        for first in range(0, len(indices), BLOCK)
    )
    return (total / len(indices) / 127.5 - 1).astype(np.float32), len(indices)


def _classes_are_known(subject: Subject, name: str) -> bool:
    """Returns whether the classes of pixels of samples can be read: of colour pictures made of maps of scenes."""
    of = subject.config.data
    return of.source == 'scenes' and name == 'segmentation' and of.observe == 'image' and of.channels == 3


def _classes(samples: np.ndarray, truth: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Compares the classes of pixels with the requested ones. Adds the chance level, and the figures of real pictures.

    Args:
        samples: [N, R, R, 3] in [-1, 1].
        truth: the real pictures of the same maps.
        asked: int [N, R, R].
    """
    found = scenes.class_maps(samples)
    versions = {'': found, '_of_data': scenes.class_maps(truth), '_by_chance': np.roll(found, 1, 0)}
    return {
        f'translation_{name}{version}': value
        for version, maps in versions.items()
        for name, value in scenes.map_agreement(maps, asked).items()
    }
