"""Tests which value of a figure is better."""

import math

import pytest

from genlab.run.better import BETTER, HIGHER, LOWER, improves


def test_each_figure_has_one_direction():
    assert not {*LOWER} & {*HIGHER} and {*BETTER} == {*LOWER, *HIGHER}


@pytest.mark.parametrize(
    'figure, value, best, expected',
    [
        ('frechet_distance', 1.0, None, True),
        ('frechet_distance', 1.0, 2.0, True),
        ('frechet_distance', 2.0, 2.0, False),
        ('frechet_distance', 3.0, 2.0, False),
        ('recall', 3.0, 2.0, True),
        ('recall', 1.0, 2.0, False),
        ('modes', 8, 7, True),
        *(('frechet_distance', value, best, False) for value in (math.nan, -math.inf, 'x', None) for best in (None, 1)),
    ],
)
def test_a_better_value_improves_and_what_is_no_number_does_not(figure, value, best, expected):
    assert improves(figure, value, best) is expected
