"""Codes: probes, clusters, maps and factors for continuous codes, codebook usage for discrete codes."""

from typing import Any

import jax
import numpy as np

from genlab.evaluation.metrics import codes, disentanglement
from genlab.evaluation.metrics.maps import map_picture
from genlab.evaluation.subject import Part, Subject, compiled
from genlab.latents import vectors

MAPPED = 5000  # examples on a map


def applies(subject: Subject) -> bool:
    """Returns whether the model encodes examples."""
    return subject.encodes


def evaluate(subject: Subject) -> Part:
    """Fits probes to the codes of training examples, and measures them on the codes of held-out examples."""
    protocol = {'held_out': subject.held_out, 'fitted_to': len(subject.chosen('train')), **subject.modelled}
    if subject.codec.entries:
        return Part(protocol, _usage(subject.codes('test'), subject.codec.entries))
    train, test = subject.vectors('train'), subject.vectors('test')
    figures: dict[str, Any] = {'code_size': test.shape[1], **_units(subject, test)}
    if test.shape[1] < subject.flat('test').shape[1]:
        figures |= _beside_pca(subject, test.shape[1])
    pictures = {}
    labels = subject.rows('test', 'label') if subject.has('label') else None
    if labels is not None:
        train_labels = subject.rows('train', 'label')
        figures |= codes.clusters(test, labels)
        if len(np.unique(train_labels)) < 2:
            figures['linear_probe'] = 'the training set has one class, and a probe needs two'
        else:
            figures['linear_probe'] = codes.linear_probe(train, train_labels, test, labels)
            if 'squared_error_of_pca' in figures:
                figures['linear_probe_of_pca'] = _probe_of_pca(subject, test.shape[1], train_labels, labels)
    if subject.has('angle'):
        figures['angle_correlation'] = _order(test, subject.rows('test', 'angle')[:, 0])
    if subject.has('factors'):
        factors, names = disentanglement.scene_factors(subject.rows('test', 'factors'))
        figures |= disentanglement.scores(test, factors, names, seed=subject.config.evaluate.seed)
    for method in subject.config.evaluate.maps if test.shape[1] > 1 else ():
        plane = codes.plane(test[:MAPPED], method, subject.config.evaluate.seed)
        pictures[f'codes_by_{method}'] = map_picture(plane, None if labels is None else labels[:MAPPED])
    return Part(protocol, figures, pictures)


def _usage(indices: Any, entries: int) -> dict[str, Any]:
    """Measures codebook usage; for several grids of indices it is the mean, and the usage of each grid."""
    grids = {
        jax.tree_util.keystr(path, simple=True, separator='.'): codes.usage(grid, entries)
        for path, grid in jax.tree.leaves_with_path(indices)
    }
    names = ('codebook_used', 'perplexity')
    figures: dict[str, Any] = {name: float(np.mean([usage[name] for usage in grids.values()])) for name in names}
    if len(grids) > 1:
        figures |= {f'{name}_by_grid': {grid: usage[name] for grid, usage in grids.items()} for name in names}
    return figures


def _units(subject: Subject, test: np.ndarray) -> dict[str, Any]:
    """Measures active units for posterior means, or activation and sparsity for codes in [0, 1]."""
    if subject.experiment.likelihood and subject.experiment.likelihood.log_weight:
        active, units = codes.active_units(test)
        return {'active_units': active, 'of_units': units}
    return codes.activation(test) if test.min() >= 0 and test.max() <= 1 else {}


def _beside_pca(subject: Subject, size: int) -> dict[str, Any]:
    """Compares the codes with PCA of the same size.

    The squared error of PCA is in the units of `squared_error`. For an affine decoder, `angle_to_pca` is the largest
    angle between the spans of the decoder and PCA, in degrees.
    """
    fitted = codes.pca(subject.flat('train'), size)
    unit = 4 if subject.images else 1  # distances between pixels in [-1, 1] are twice the distances in [0, 1]
    figures = {'squared_error_of_pca': float(codes.pca_squared_error(fitted, subject.flat('test')).mean()) / unit}
    layout, decode = vectors.layout_of(subject.codes('test')), compiled(subject.codec.decode)
    span = codes.affine_span(lambda z: np.asarray(decode(subject.variables, layout.restore(z))), size)
    if span is not None:
        figures['angle_to_pca'] = codes.principal_angle(span, fitted.components)
    return figures


def _probe_of_pca(subject: Subject, size: int, train_labels: np.ndarray, labels: np.ndarray) -> float:
    """Returns the accuracy of a linear probe on PCA codes with `size` components."""
    fitted = codes.pca(subject.flat('train'), size)
    train, test = (subject.x(split).reshape(len(subject.x(split)), -1) for split in ('train', 'test'))
    return codes.linear_probe(codes.pca_codes(fitted, train), train_labels, codes.pca_codes(fitted, test), labels)


def _order(test: np.ndarray, angle: np.ndarray) -> float:
    """Returns the largest absolute rank correlation (Spearman) between a code dimension and an angle."""
    from scipy.stats import spearmanr

    return float(max(abs(spearmanr(axis, angle).statistic) for axis in test.T))
