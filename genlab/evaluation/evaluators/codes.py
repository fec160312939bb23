"""What do codes know? Probes, clusters, maps and factors for continuous codes, usage for discrete ones."""

from typing import Any

import numpy as np

from genlab.evaluation.metrics import codes, disentanglement
from genlab.evaluation.metrics.maps import map_picture
from genlab.evaluation.subject import Part, Subject
from genlab.sampling import drawing

MAPPED = 5000  # examples on a map


def applies(subject: Subject) -> bool:
    return subject.encodes


def judge(subject: Subject) -> Part:
    """Judges are fitted to codes of training examples and measured on those of held-out ones."""
    protocol = {'held_out': subject.held_out, 'fitted_to': len(subject.chosen('train'))}
    if subject.experiment.codec.entries:
        return Part(protocol, codes.usage(subject.codes('test'), subject.experiment.codec.entries))
    train, test = (subject.codes(split).reshape(len(subject.chosen(split)), -1) for split in ('train', 'test'))
    figures: dict[str, Any] = {'code_size': test.shape[1], **_units(subject, test)}
    if test.shape[1] < subject.flat('test').shape[1]:
        figures |= _beside_pca(subject, test.shape[1])
    pictures = {}
    labels = subject.rows('test', 'label') if subject.has('label') else None
    if labels is not None:
        known = subject.rows('train', 'label')
        figures |= {'linear_probe': codes.linear_probe(train, known, test, labels), **codes.clusters(test, labels)}
        if 'squared_error_of_pca' in figures:
            figures['linear_probe_of_pca'] = _probe_of_pca(subject, test.shape[1], known, labels)
    if subject.has('angle'):
        figures['angle_correlation'] = _order(test, subject.rows('test', 'angle')[:, 0])
    if subject.has('factors'):
        factors = disentanglement.scene_factors(subject.rows('test', 'factors'))
        figures |= disentanglement.scores(test, *factors, seed=subject.config.evaluate.seed)
    for method in subject.config.evaluate.maps if test.shape[1] > 1 else ():
        plane = codes.plane(test[:MAPPED], method, subject.config.evaluate.seed)
        pictures[f'codes_by_{method}'] = map_picture(plane, None if labels is None else labels[:MAPPED])
    return Part(protocol, figures, pictures)


def _units(subject: Subject, test: np.ndarray) -> dict[str, Any]:
    """Active units of a posterior's mean; mean activation, sparsity and dead units of codes that are activations in [0, 1]."""
    if subject.experiment.likelihood and subject.experiment.likelihood.log_weight:
        active, units = codes.active_units(test)
        return {'active_units': active, 'of_units': units}
    return codes.activation(test) if test.min() >= 0 and test.max() <= 1 else {}


def _beside_pca(subject: Subject, size: int) -> dict[str, Any]:
    """The squared error of PCA with as many numbers a code, in the units of `squared_error`, and for an affine decoder the
    largest angle between its span and PCA's."""
    fitted = codes.pca(subject.flat('train'), size)
    unit = 4 if subject.images else 1  # pixels in [-1, 1] are twice as far apart as in [0, 1]
    figures = {'squared_error_of_pca': float(codes.pca_squared_error(fitted, subject.flat('test')).mean()) / unit}
    if subject.experiment.codec is not None:
        shape, decode = subject.codes('test').shape[1:], drawing.jitted(subject.experiment.codec.decode)
        span = codes.affine_span(lambda z: np.asarray(decode(subject.variables, z.reshape(-1, *shape))), size)
        if span is not None:
            figures['angle_to_pca'] = codes.principal_angle(span, fitted.components)
    return figures


def _probe_of_pca(subject: Subject, size: int, known: np.ndarray, labels: np.ndarray) -> float:
    """What a linear probe makes of PCA's codes of the same size."""
    fitted = codes.pca(subject.flat('train'), size)
    train, test = (subject.x(split).reshape(len(subject.x(split)), -1) for split in ('train', 'test'))
    return codes.linear_probe(codes.pca_codes(fitted, train), known, codes.pca_codes(fitted, test), labels)


def _order(test: np.ndarray, angle: np.ndarray) -> float:
    """The largest absolute rank correlation (Spearman) of a code axis with an angle."""
    from scipy.stats import spearmanr

    return float(max(abs(spearmanr(axis, angle).statistic) for axis in test.T))
