"""Tests disentanglement on codes with a known relation to the factors: copies, halves, mixtures, noise."""

import numpy as np
import pytest

from genlab.data.sources.scenes import layout
from genlab.evaluation.metrics import disentanglement

NAMES = ('kind', 'colour', 'place')


@pytest.fixture(scope='module')
def factors():
    """Returns three independent factors of 4, 4 and 8 values, each combination equally often: [1280, 3]."""
    every = np.stack(np.meshgrid(*map(np.arange, (4, 4, 8)), indexing='ij'), -1).reshape(-1, 3)
    return np.random.default_rng(0).permutation(np.tile(every, (10, 1)))


def noise(factors, units, seed=1):
    return np.random.default_rng(seed).standard_normal((len(factors), units))


def test_one_unit_per_factor_is_perfect(factors):
    perfect = np.concatenate([noise(factors, 2), -factors[:, ::-1] * 3.0], 1)
    found = disentanglement.scores(perfect, factors, NAMES)
    assert found.pop('mig_by_factor').keys() == {*NAMES}
    assert set(found) == {'mig', 'dci_disentanglement', 'dci_completeness', 'dci_informativeness', 'factor_vae'}
    assert all(0.95 < value <= 1 + 1e-9 for value in found.values()), found
    assert disentanglement.scores(perfect, factors, NAMES) == disentanglement.scores(perfect, factors, NAMES)


def test_mixtures_score_less_and_noise_close_to_zero(factors):
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((5, 5)))[0]
    mixed = np.concatenate([factors / factors.std(0), noise(factors, 2)], 1) @ turn
    rotated = disentanglement.scores(mixed, factors, NAMES)
    assert max(rotated['mig'], rotated['dci_disentanglement'], rotated['dci_completeness']) < 0.5
    assert rotated['factor_vae'] < 0.95
    meaningless = disentanglement.scores(noise(factors, 5), factors, NAMES)
    assert max(meaningless['mig'], meaningless['dci_disentanglement'], meaningless['dci_informativeness']) < 0.05
    assert meaningless['factor_vae'] == pytest.approx(1 / 3, abs=0.1)


def test_mutual_information_gaps_in_closed_form(factors):
    half = np.stack([factors[:, 0], factors[:, 0] // 2, factors[:, 1], factors[:, 1], factors[:, 2]], 1)
    gaps = disentanglement.mutual_information_gaps(np.float64(half), factors)
    np.testing.assert_allclose(gaps, [0.5, 0, 1], atol=1e-9)  # two bits against one; a copy; no second unit
    np.testing.assert_allclose(
        disentanglement.mutual_information_gaps(factors[:, 2:] * 1.0, factors), [0, 0, 1], atol=1e-9
    )


def test_dci_separates_shared_units_from_spread_factors(factors):
    shared = np.stack([factors[:, 0] * 4 + factors[:, 1], factors[:, 2]], 1) * 1.0  # a unit for two factors
    found = disentanglement.dci(shared, factors)
    assert found['dci_completeness'] > 0.99
    # the shared unit has two of the three factors' importance, in two equal parts: 2/3 (1 - log 2 / log 3) + 1/3
    assert found['dci_disentanglement'] == pytest.approx(1 - 2 / 3 * np.log(2) / np.log(3), abs=0.02)
    first, second, third = factors.T
    spread = np.stack([first // 2, first % 2, second, third], 1) * 1.0  # a factor in two units
    found = disentanglement.dci(spread, factors)
    assert found['dci_disentanglement'] > 0.99 and found['dci_informativeness'] > 0.99
    assert found['dci_completeness'] == pytest.approx(1 - np.log(2) / np.log(4) / 3, abs=0.02)


def test_factor_vae_needs_a_separate_unit_for_each_factor(factors):
    for scale in (1.0, 100.0, 0.01):  # units are compared after division by their standard deviation
        assert disentanglement.factor_vae((factors + 0.1 * noise(factors, 3)) * (1.0, scale, 1 / scale), factors) == 1
    shared = np.stack([factors[:, 0] + factors[:, 1], factors[:, 2]], 1) * 1.0
    assert disentanglement.factor_vae(shared, factors) == pytest.approx(
        2 / 3, abs=0.06
    )  # two of three factors are indistinguishable


def test_constant_units_and_factors_are_left_out(factors):
    codes, constant = factors * 1.0, np.ones((len(factors), 1), int)
    found = disentanglement.scores(
        np.concatenate([codes, constant], 1), np.concatenate([factors, constant], 1), (*NAMES, 'c')
    )
    assert found == disentanglement.scores(codes, factors, NAMES)
    dead = disentanglement.scores(np.ones((len(factors), 4)), factors, NAMES)
    assert dead['mig'] == dead['dci_informativeness'] == 0 and dead['factor_vae'] == 1 / 3


def test_factors_of_scenes_are_those_that_every_scene_has():
    scene = layout.layout(0, np.arange(2000))
    values, names = disentanglement.scene_factors(layout.factors(scene))
    columns = dict(zip(names, values.T))
    assert values.shape == (2000, 7) and values.dtype.kind == 'i'
    np.testing.assert_array_equal(columns['kind_0'], scene['kind'][:, 0])
    np.testing.assert_array_equal(columns['background'], scene['background'])
    for name in ('radius_0', 'x_0', 'y_0', 'rotation_0'):
        np.testing.assert_allclose(np.bincount(columns[name]), 250, atol=2)
        assert (np.diff(columns[name][np.argsort(scene[name[:-2]][:, 0])]) >= 0).all()
