"""Does the model find what it has never seen? Classes left out of training are the anomalies among held-out examples."""

import numpy as np

from genlab.errors import ConfigError
from genlab.evaluation.metrics.anomaly import detection
from genlab.evaluation.metrics.codes import pca, pca_squared_error
from genlab.evaluation.subject import Part, Subject
from genlab.sampling import drawing


def applies(subject: Subject) -> bool:
    return bool(subject.config.data.leave_out) and subject.experiment.measure is not None


def judge(subject: Subject) -> Part:
    """Detection by the measure that `config.evaluate.anomaly` names, and by the error of PCA with as many numbers a code."""
    name, left_out = subject.config.evaluate.anomaly, list(subject.config.data.leave_out)
    values = subject.over(drawing.jitted(subject.experiment.measure))
    if name not in values:
        raise ConfigError(f'config.evaluate.anomaly={name!r}: the model measures {", ".join(values)}')
    anomalous = np.isin(subject.rows('test', 'label'), left_out)
    found = detection(values[name], anomalous)
    figures = {f'anomaly_{figure}': value for figure, value in found.items()}
    if subject.encodes and not subject.experiment.codec.entries:
        size = int(np.prod(subject.codes('test').shape[1:]))
        errors = pca_squared_error(pca(subject.flat('train'), size), subject.flat('test'))
        baseline = detection(errors, anomalous)
        figures |= {f'anomaly_{figure}_of_pca': baseline[figure] for figure in ('auroc', 'aupr')}
    return Part({'held_out': subject.held_out, 'left_out': left_out, 'score': name}, figures)
