"""Anomaly detection: the anomalies among held-out examples are the classes left out of training."""

from typing import Any

import numpy as np

from genlab.errors import ConfigError
from genlab.evaluation.metrics.anomaly import detection
from genlab.evaluation.metrics.codes import pca, pca_squared_error
from genlab.evaluation.subject import Part, Subject, compiled


def applies(subject: Subject) -> bool:
    """Returns whether classes are left out of training and the model measures examples."""
    return bool(subject.config.data.leave_out) and subject.experiment.measure is not None


def evaluate(subject: Subject) -> Part:
    """Detects anomalies by the measure `config.evaluate.anomaly`.

    The baseline is the error of PCA with as many components as a code has values.
    """
    name, left_out = subject.config.evaluate.anomaly, list(subject.config.data.leave_out)
    values = subject.over(compiled(subject.experiment.measure))
    if name not in values:
        raise ConfigError(f'config.evaluate.anomaly={name!r}: the model measures {", ".join(values)}')
    anomalous = np.isin(subject.rows('test', 'label'), left_out)
    protocol = {'held_out': subject.held_out, 'left_out': left_out, 'score': name, **subject.modelled}
    if not anomalous.any() or (~anomalous).sum() < 2:
        text = f'needs an anomaly and two others, there are {anomalous.sum()} and {(~anomalous).sum()}'
        return Part(protocol, {'anomaly_auroc': text})
    figures: dict[str, Any] = {
        f'anomaly_{figure}': value for figure, value in detection(values[name], anomalous).items()
    }
    if subject.encodes and not subject.codec.entries:
        components = pca(subject.flat('train'), subject.vectors('test').shape[1])
        errors = pca_squared_error(components, subject.flat('test'))
        baseline = detection(errors, anomalous)
        figures |= {f'anomaly_{figure}_of_pca': baseline[figure] for figure in ('auroc', 'aupr')}
    return Part(protocol, figures)
