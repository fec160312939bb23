"""Anomaly detection by a score that is higher for anomalies: an error, or a negative log-likelihood in nats."""

import numpy as np


def detection(scores: np.ndarray, anomalous: np.ndarray, *, quantile: float = 0.95) -> dict[str, float]:
    """Returns how well a score separates anomalies from normal held-out examples.

    Every second normal example, starting with the first, is used for validation. The threshold is the `quantile` of its
    scores; no anomaly is used to set it. All figures are computed on the other normal examples and on all anomalies.

    Args:
      scores: [N]. A score that is not finite counts as the highest.
      anomalous: [N], bool.
      quantile: quantile of the validation scores, in (0, 1).

    Returns:
      `auroc`: the probability that an anomaly scores higher than a normal example; 0.5 at random.
      `aupr`: the average precision. A random score has the share of anomalies, which is `anomalous`.
      `threshold`: in units of the score.
      `precision`, `recall`: of calling every example above the threshold anomalous.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, anomalous = np.asarray(scores, np.float64), np.asarray(anomalous, bool)
    scores = np.where(np.isfinite(scores), scores, np.finfo(np.float64).max)
    validates = np.zeros(len(scores), bool)
    validates[np.flatnonzero(~anomalous)[::2]] = True
    # A score that occurs: interpolation would mix infinities.
    threshold = np.quantile(scores[validates], quantile, method='higher')
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
