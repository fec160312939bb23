"""Are samples like the data? Fidelity, diversity, classes and memorisation, in the features that the config names."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from genlab import data
from genlab.evaluation.features import classifier, extractors, reference
from genlab.evaluation.metrics import distances, diversity, neighbours
from genlab.evaluation.metrics.manifold import manifold
from genlab.evaluation.metrics.similarity import scales, within_class_ms_ssim
from genlab.evaluation.needs import shortage
from genlab.evaluation.subject import Part, Subject

SHOWN, NEIGHBOURS = 12, 5  # samples in the picture of nearest training examples, and of these


def applies(subject: Subject) -> bool:
    return subject.experiment.sampler is not None and subject.images


def judge(subject: Subject) -> Part:
    """Every measure of samples that the data allow; one on too few examples says so instead of a number."""
    evaluate, samples = subject.config.evaluate, subject.samples
    source = data.load(subject.whole.data, evaluate.reference)
    labelled = 'label' in source.fields and subject.config.data.observe == 'image'
    knows = classifier.load(subject.whole.data) if labelled else None
    extractor = extractors.load(subject.whole, knows)
    real = reference.statistics(subject.whole.data, source, extractor, evaluate.reference_count)
    protocol = {
        **extractor.protocol,
        'samples': len(samples),
        'reference': f'{source.name}, {int(real["count"]):,}',
        'compared': len(real['features']),
    }
    finite = np.isfinite(samples).all((1, 2, 3))
    figures: dict[str, Any] = {'finite': float(finite.mean())}
    if not finite.all():
        return Part(protocol, figures)
    began = time.perf_counter()
    made = extractor.extract(samples)
    rates = {'features': len(samples) / (time.perf_counter() - began)}
    figures |= _distances(made, real, evaluate.seed)
    if knows:
        protocol |= {
            'classes_by': f'classifier, test accuracy {knows.accuracy:.4f}',
            'ms_ssim_scales': scales(*samples.shape[1:3]),
        }
        figures |= _classes(subject, knows, knows.probabilities(samples), real['label'])
    if extractor.classify is not None:
        lacking = shortage('inception_score', len(extractor.classes), len(made))
        figures['inception_score'] = lacking or diversity.inception_score(extractor.classify(made))[0]
    held_out = extractor.extract(reference.examples(subject.whole.data, subject.test, subject.chosen('test')))
    figures |= _novelty(made, real['features'], held_out, evaluate.seed)
    nearest, _ = neighbours.nearest(made[:SHOWN], real['features'], count=min(NEIGHBOURS, len(real['features'])))
    training = reference.examples(subject.whole.data, source, real['indices'][nearest.reshape(-1)])
    order = np.arange(nearest.size).reshape(nearest.shape)
    return Part(protocol, figures, {'nearest_neighbours': neighbours.picture(samples[:SHOWN], training, order)}, rates)


def _distances(made: np.ndarray, real: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """How far samples are from the data, and whether they are both good and varied."""
    dimensions, counts = made.shape[1], (len(made), int(real['count']))
    lacking = {metric: shortage(metric, dimensions, *counts) for metric in ('frechet', 'kernel_distance', 'manifold')}
    if 'mean' not in real:
        lacking['frechet'] = f'not computed in {dimensions:,} dimensions'
    figures: dict[str, Any] = {
        'frechet_distance': lacking['frechet']
        or distances.frechet(*distances.moments(made), real['mean'], real['covariance'])
    }
    if lacking['kernel_distance']:
        figures['kernel_distance'] = lacking['kernel_distance']
    else:
        kernel = distances.kernel_distance(real['features'], made, seed=seed)
        figures |= dict(zip(('kernel_distance', 'kernel_distance_error'), kernel))
    if lacking['manifold']:
        return figures | dict.fromkeys(('precision', 'recall', 'density', 'coverage'), lacking['manifold'])
    return figures | manifold(real['features'], made)


def _classes(
    subject: Subject, knows: classifier.Classifier, probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """The classes of the samples beside those of the data, and how varied each is."""
    found, number = probabilities.argmax(1), len(knows.classes)
    figures, shares = class_shares(probabilities, knows.classes), np.bincount(found, minlength=number)
    lacking = shortage('class_divergence', number, len(found))
    figures['class_divergence'] = lacking or diversity.class_divergence(shares, np.bincount(labels, minlength=number))
    seed = subject.config.evaluate.seed
    figures['ms_ssim'], figures['ms_ssim_of_class'] = within_class_ms_ssim(subject.samples, found, seed=seed)
    if subject.config.sample.condition:
        asked = subject.test.rows(np.arange(len(found)) % len(subject.test))['label']
        figures['condition_accuracy'] = float((asked == found).mean())
    return figures


def class_shares(probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """The share of each class by probabilities [N, classes], the smallest and largest, and the mean confidence."""
    shares = np.bincount(probabilities.argmax(1), minlength=len(classes)) / len(probabilities)
    return {
        'class_share': dict(zip(classes, map(float, shares))),
        'smallest_share': float(shares.min()),
        'largest_share': float(shares.max()),
        'confidence': float(probabilities.max(1).mean()),
    }


def _novelty(made: np.ndarray, training: np.ndarray, held_out: np.ndarray, seed: int) -> dict[str, Any]:
    """Whether samples repeat the training set, and how soon they repeat each other."""
    lacking = shortage('memorised', made.shape[1], len(made), len(held_out))
    if lacking:
        return {'memorised': lacking, 'birthday_support': lacking}
    support = diversity.birthday_support(made, held_out, seed=seed)
    repeated = support['duplicates'] > 0
    return {
        'memorised': neighbours.memorised(made, training, held_out),
        'birthday_support': support['support'] if repeated else f'no duplicates among {len(made):,}',
        'birthday_support_at_least': support['support_at_least'],
        'birthday_support_of_data': support['support_of_data'],
    }
