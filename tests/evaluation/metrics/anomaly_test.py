"""Tests anomaly detection against counts of pairs and thresholds by hand."""

import numpy as np
import pytest

from genlab.evaluation.metrics import anomaly


def by_hand(scores, anomalous):
    """Returns (AUROC by all pairs, average precision by all thresholds) for every other normal example."""
    normal, odd = scores[~anomalous][1::2], scores[anomalous]
    pairs = np.sign(odd[:, None] - normal[None]) / 2 + 0.5
    precision, recall = [1.0], [0.0]
    for threshold in sorted({*normal, *odd}, reverse=True):
        called = (odd >= threshold).sum(), (normal >= threshold).sum()
        precision.append(called[0] / sum(called))
        recall.append(called[0] / len(odd))
    return pairs.mean(), np.sum(np.diff(recall) * precision[1:])


@pytest.mark.parametrize('shift', [-1, 0, 2])
def test_curves_agree_with_counting(shift):
    rng = np.random.default_rng(0)
    anomalous = rng.random(300) < 0.2
    scores = np.round(rng.standard_normal(300) + shift * anomalous, 1)  # rounded: with ties
    found = anomaly.detection(scores, anomalous)
    assert (found['auroc'], found['aupr']) == pytest.approx(by_hand(scores, anomalous))
    assert found['anomalous'] == pytest.approx(anomalous.sum() / (anomalous.sum() + (~anomalous).sum() // 2))


def test_the_threshold_is_set_on_one_half_and_tested_on_the_other():
    normal = np.arange(200.0)  # even numbers validate, odd ones test
    scores, anomalous = np.append(normal, [150, 191, 500, 600]), np.repeat([False, True], [200, 4])
    found = anomaly.detection(scores, anomalous, quantile=0.95)
    assert found['threshold'] == 190  # 0.95 of the way from 0 to 198 is 188.1: the next score
    assert found['recall'] == 3 / 4 and found['precision'] == 3 / (3 + 5)  # 191, 193, ... 199 are detected too
    assert anomaly.detection(scores + 1e3 * anomalous, anomalous)['threshold'] == 190
    assert anomaly.detection(np.append(normal, [0, 0, 0, 0]), anomalous)['precision'] == 0
    assert anomaly.detection(np.append(np.zeros(200), np.ones(4)), anomalous) == {
        'auroc': 1,
        'aupr': 1,
        'anomalous': 4 / 104,
        'threshold': 0,
        'precision': 1,
        'recall': 1,
    }


def test_scores_that_are_not_finite_are_the_highest():
    anomalous = np.repeat([False, True], [100, 3])
    found = anomaly.detection(np.append(np.zeros(100), [np.nan, np.inf, 1]), anomalous)
    assert found['auroc'] == found['recall'] == found['precision'] == 1
    nothing = anomaly.detection(np.full(103, np.nan), anomalous)
    assert nothing['auroc'] == 0.5 and nothing['recall'] == 0 and np.isfinite(nothing['threshold'])
