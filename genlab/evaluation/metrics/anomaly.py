"""Finding what a model was not trained on by a score that is higher for it: an error, or nats."""

import numpy as np


def detection(scores: np.ndarray, anomalous: np.ndarray, *, quantile: float = 0.95) -> dict[str, float]:
    """How well scores [N] tell the anomalous [N] (bool) from normal held-out examples.

    Every other normal example, from the first on, validates: the threshold is that `quantile` of their scores, and no anomaly
    is used to set it. All figures are of the others, the other normal half and all anomalies: `auroc`, the chance that an
    anomaly scores higher than a normal example; `aupr`, the average precision, whose level by chance is the share of
    anomalies, `anomalous`; `precision` and `recall` of calling anomalous what scores above the threshold. A score that is not
    finite counts as the highest."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, anomalous = np.float64(scores), np.asarray(anomalous, bool)
    scores = np.where(np.isfinite(scores), scores, np.finfo(np.float64).max)
    validates = np.zeros(len(scores), bool)
    validates[np.flatnonzero(~anomalous)[::2]] = True
    threshold = np.quantile(
        scores[validates], quantile, method='higher'
    )  # a score that occurs: infinities are not mixed
    scores, anomalous = scores[~validates], anomalous[~validates]
    called = scores > threshold
    return {
        'auroc': float(roc_auc_score(anomalous, scores)),
        'aupr': float(average_precision_score(anomalous, scores)),
        'anomalous': float(anomalous.mean()),
        'threshold': float(threshold),
        'precision': float((called & anomalous).sum() / max(called.sum(), 1)),
        'recall': float(called[anomalous].mean()),
    }
