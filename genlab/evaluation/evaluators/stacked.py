"""Samples of stacked images: how many combinations of classes they cover, and how evenly."""

import numpy as np

from genlab.evaluation.features import classifier
from genlab.evaluation.metrics.modes import coverage
from genlab.evaluation.subject import Part, Subject


def applies(subject: Subject) -> bool:
    """Returns whether the model samples stacked images."""
    return subject.experiment.sampler is not None and subject.whole.data.source == 'stacked'


def evaluate(subject: Subject) -> Part:
    """Classifies each channel of the samples by the classifier of the single images."""
    samples, single = subject.samples, subject.whole.data.copy_and_resolve_references()
    single.update(source=single.stacked, stacked='', channels=1)
    trained = classifier.load(single)
    finite = np.isfinite(samples).all((1, 2, 3))
    classes = [trained.probabilities(samples[finite][..., channel : channel + 1]).argmax(1) for channel in range(3)]
    figures = coverage(np.stack(classes, 1), len(trained.classes)) if finite.any() else {}
    protocol = {
        'samples': len(samples),
        'classes_by': f'classifier, test accuracy {trained.accuracy:.4f}',
        **subject.selected,
    }
    return Part(protocol, {'finite': float(finite.mean()), **figures})
