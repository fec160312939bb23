"""Samples of points: covered modes, if the modes are known, and the distance to held-out points."""

import numpy as np

from genlab.evaluation.metrics.distances import sliced_wasserstein
from genlab.evaluation.metrics.toy import modes
from genlab.evaluation.subject import Part, Subject


def applies(subject: Subject) -> bool:
    """Returns whether the model samples points."""
    return subject.experiment.sampler is not None and subject.samples_are_points


def evaluate(subject: Subject) -> Part:
    """Measures mode coverage, sample quality, and the sliced Wasserstein distance to held-out points.

    The baseline of the distance is `sliced_wasserstein_of_data`, for as many training points.
    """
    samples, observe, seed = subject.samples, subject.whole.data.observe, subject.config.evaluate.seed
    count = min(len(samples), subject.held_out)
    real, other = (subject.compared(split).rows(np.arange(count))[observe] for split in ('test', 'train'))
    finite = np.isfinite(samples).all(1)
    figures = {'finite': float(finite.mean())}
    if subject.compared('test').centres is not None:
        figures |= modes(samples, subject.compared('test'))
    if finite.all():
        figures |= {
            'sliced_wasserstein': sliced_wasserstein(samples[:count], real, seed=seed),
            'sliced_wasserstein_of_data': sliced_wasserstein(other, real, seed=seed),
        }
    return Part({'samples': len(samples), 'held_out': count, **subject.selected}, figures)
