"""Tests the rows of Old Faithful by their published moments."""

import numpy as np

from genlab import data
from genlab.data.load import defaults


def test_rows_have_the_published_moments():
    source = data.load(defaults(source='faithful', observe='point'))
    points = source.rows(np.arange(len(source)))['point'].astype(np.float64)
    data.check(source, {'point': points.astype(np.float32)})
    assert points.shape == (272, 2)
    np.testing.assert_allclose(points.mean(0), [3.487783, 70.897059], atol=5e-7)
    np.testing.assert_allclose(points.std(0, ddof=1), [1.141371, 13.594974], atol=5e-7)
    np.testing.assert_allclose(np.corrcoef(points.T)[0, 1], 0.9008112, atol=5e-7)
