"""Tests that each alarm is raised just beyond its threshold, and none for a missing figure."""

import numpy as np
import pytest

from genlab.evaluation.alarms import alarms

TEN = {str(digit): 0.1 for digit in range(10)}
CASES = [
    ({'finite': 0.0}, {'finite': 1.0}, 'not finite'),
    ({'modes': 3, 'of_modes': 8}, {'modes': 4, 'of_modes': 8}, '3 of 8 modes'),
    (
        {'modes': 3, 'of_modes': 8, 'high_quality': 0.24},
        {'modes': 4, 'of_modes': 8, 'high_quality': 0.24},
        '24% of the samples lie at a mode: the samples are not yet close',
    ),
    ({'class_share': TEN, 'largest_share': 0.31}, {'class_share': TEN, 'largest_share': 0.29}, '31%'),
    (
        {'class_share': {'a': 0, 'b': 1}, 'largest_share': 0.95},
        {'class_share': {'a': 0, 'b': 1}, 'largest_share': 0.8},
        '95%',
    ),
    (
        {'class_share': TEN, 'largest_share': 0.4, 'class_divergence': 0.2},
        {'class_share': TEN, 'largest_share': 0.4, 'class_divergence': 0.05},
        '40%',
    ),  # the data are equally uneven
    ({'class_divergence': 0.51}, {'class_divergence': 0.49}, '0.51 nats'),
    ({'ms_ssim': 0.91}, {'ms_ssim': 0.9}, '0.91'),
    ({'recall': 0.09}, {'recall': 0.1}, 'Recall is 0.09'),
    ({'coverage': np.float32(0.02)}, {'coverage': np.float32(0.2)}, 'Coverage is 0.02'),
    ({'codebook_used': 0.05}, {'codebook_used': 0.1}, '5.0% of the codebook'),
    ({'active_units': 4, 'of_units': 100}, {'active_units': 5, 'of_units': 100}, '4 of 100 units'),
]


@pytest.mark.parametrize('bad, good, words', CASES)
def test_an_alarm_is_raised_beyond_its_threshold_only(bad, good, words):
    found = alarms(bad)
    assert len(found) == 1 and words in found[0] and found[0].endswith('.') and '\n' not in found[0]
    assert alarms(good) == []


def test_samples_of_high_quality_from_few_modes_are_a_collapse():
    figures = {'modes': 3, 'of_modes': 8, 'high_quality': 0.25}
    assert ['mode collapse; a gradient penalty (r1)' in line for line in alarms(figures)] == [True]


def test_missing_figures_and_texts_raise_no_alarm():
    assert alarms({}) == []
    every = {name: value for bad, _, _ in CASES for name, value in bad.items()}
    assert alarms(dict.fromkeys(every, 'needs at least 10 samples')) == []
    assert alarms({name: float('nan') for name in every if name != 'finite'}) == []
    for name in ('modes', 'of_modes', 'active_units', 'of_units', 'class_share', 'largest_share'):
        assert alarms({name: every[name]}) == []


def test_all_alarms_are_listed_most_severe_first():
    every = {name: value for bad, _, _ in CASES for name, value in bad.items()} | {
        'class_share': TEN,
        'largest_share': 0.95,
    }
    found = alarms(every | {'class_divergence': 2.0})
    assert len(found) == 9 and 'finite' in found[0]
    assert len(set(found)) == 9
