"""Samples of images: fidelity, diversity, classes and memorisation, in the features that the config names."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from genlab import data
from genlab.evaluation.features import classifier, extractors, reference
from genlab.evaluation.metrics import codes, distances, diversity, neighbours
from genlab.evaluation.metrics.manifold import manifold
from genlab.evaluation.metrics.similarity import scales, within_class_ms_ssim
from genlab.evaluation.needs import shortage
from genlab.evaluation.subject import Part, Subject

SHOWN = 12  # samples in the picture of nearest neighbours
NEIGHBOURS = 5  # nearest training examples per sample in that picture


def applies(subject: Subject) -> bool:
    """Returns whether the model samples images."""
    return subject.experiment.sampler is not None and subject.samples_are_images


def evaluate(subject: Subject) -> Part:
    """Computes every metric of samples that applies to the data; a text replaces a metric on too few examples."""
    settings, samples = subject.config.evaluate, subject.samples
    source = data.load(subject.whole.data, settings.reference)
    labelled = 'label' in source.fields and subject.whole.data.observe == 'image'
    trained = classifier.load(subject.whole.data) if labelled else None
    extractor = extractors.load(subject.whole, trained)
    real = reference.statistics(subject.whole.data, source, extractor, settings.reference_count)
    protocol = {
        **extractor.protocol,
        'samples': len(samples),
        'reference': f'{source.name}, {int(real["count"]):,}',
        'reference_examples': [settings.reference, int(real['count'])],
        'compared': len(real['features']),
        **subject.selected,
    }
    finite = np.isfinite(samples).all((1, 2, 3))
    figures: dict[str, Any] = {'finite': float(finite.mean())}
    if not finite.all():
        return Part(protocol, figures)
    start = time.perf_counter()
    features = extractor.extract(samples)
    rates = {'features': len(samples) / (time.perf_counter() - start)}
    figures |= _distances(features, real, settings.seed)
    if trained:
        protocol |= {
            'classes_by': f'classifier, test accuracy {trained.accuracy:.4f}',
            'ms_ssim_scales': scales(*samples.shape[1:3]),
        }
        figures |= _classes(subject, trained.classes, trained.probabilities(samples), real['label'])
        if subject.asked is not None and subject.embeds_conditions:
            protocol['condition_probe'] = f'linear, fitted to {len(subject.chosen("train")):,}, on {subject.held_out:,}'
            figures |= _understood(subject, figures['condition_accuracy'])
    if extractor.classify is not None:
        lacking = shortage('inception_score', len(extractor.classes), len(features))
        figures['inception_score'] = lacking or diversity.inception_score(extractor.classify(features))[0]
    held_out = extractor.extract(
        reference.examples(subject.whole.data, subject.compared('test'), subject.chosen('test'))
    )
    figures |= _novelty(features, real['features'], held_out, settings.seed)
    nearest, _ = neighbours.nearest(features[:SHOWN], real['features'], count=min(NEIGHBOURS, len(real['features'])))
    training = reference.examples(subject.whole.data, source, real['indices'][nearest.reshape(-1)])
    order = np.arange(nearest.size).reshape(nearest.shape)
    return Part(protocol, figures, {'nearest_neighbours': neighbours.picture(samples[:SHOWN], training, order)}, rates)


def _distances(features: np.ndarray, real: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Returns distances between samples and data, and fidelity and coverage as separate figures."""
    dimensions, counts = features.shape[1], (len(features), int(real['count']))
    lacking = {metric: shortage(metric, dimensions, *counts) for metric in ('frechet', 'kernel_distance', 'manifold')}
    if 'mean' not in real:
        lacking['frechet'] = f'not computed in {dimensions:,} dimensions'
    figures: dict[str, Any] = {
        'frechet_distance': lacking['frechet']
        or distances.frechet(*distances.moments(features), real['mean'], real['covariance'])
    }
    if lacking['kernel_distance']:
        figures['kernel_distance'] = lacking['kernel_distance']
    else:
        kernel = distances.kernel_distance(real['features'], features, seed=seed)
        figures |= dict(zip(('kernel_distance', 'kernel_distance_error'), kernel))
    if lacking['manifold']:
        return figures | dict.fromkeys(('precision', 'recall', 'density', 'coverage'), lacking['manifold'])
    return figures | manifold(real['features'], features)


def _classes(
    subject: Subject, classes: tuple[str, ...], probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Returns the class histogram of samples, its divergence from the data, and the variation within each class."""
    predicted, number = probabilities.argmax(1), len(classes)
    figures, counts = class_shares(probabilities, classes), np.bincount(predicted, minlength=number)
    lacking = shortage('class_divergence', number, len(predicted))
    figures['class_divergence'] = lacking or diversity.class_divergence(counts, np.bincount(labels, minlength=number))
    seed = subject.config.evaluate.seed
    figures['ms_ssim'], figures['ms_ssim_of_class'] = within_class_ms_ssim(subject.samples, predicted, seed=seed)
    if subject.asked is not None:
        figures['condition_accuracy'] = float((subject.asked == predicted).mean())
    return figures


def _understood(subject: Subject, accuracy: float) -> dict[str, Any]:
    """Returns how often a linear probe finds the class in the embedding of a held-out condition.

    `condition_kept` is the accuracy of samples divided by this one: the rest is lost in generating.

    accuracy: the share of samples of the requested class.
    """
    labels = subject.rows('train', 'label')
    if len(np.unique(labels)) < 2:
        return {'condition_probe': 'the training set has one class, and a probe needs two'}
    embedded = subject.conditions('train'), labels, subject.conditions('test'), subject.rows('test', 'label')
    probe = codes.linear_probe(*embedded)
    return {'condition_probe': probe, 'condition_kept': accuracy / probe if probe else float('nan')}


def class_shares(probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Returns the share of each class among predicted classes, the smallest and largest share, and the mean confidence.

    probabilities: [N, classes].
    """
    shares = np.bincount(probabilities.argmax(1), minlength=len(classes)) / len(probabilities)
    return {
        'class_share': dict(zip(classes, map(float, shares))),
        'smallest_share': float(shares.min()),
        'largest_share': float(shares.max()),
        'confidence': float(probabilities.max(1).mean()),
    }


def _novelty(features: np.ndarray, training: np.ndarray, held_out: np.ndarray, seed: int) -> dict[str, Any]:
    """Returns whether samples repeat the training set, and how soon they repeat each other."""
    lacking = shortage('memorised', features.shape[1], len(features), len(held_out))
    if lacking:
        return {'memorised': lacking, 'birthday_support': lacking}
    support = diversity.birthday_support(features, held_out, seed=seed)
    repeated = support['duplicates'] > 0
    return {
        'memorised': neighbours.memorised(features, training, held_out),
        'birthday_support': support['support'] if repeated else f'no duplicates among {len(features):,}',
        'birthday_support_at_least': support['support_at_least'],
        'birthday_support_of_data': support['support_of_data'],
    }
