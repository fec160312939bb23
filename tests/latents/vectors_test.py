"""Tests the conversion of codes of any structure to vectors and back."""

import jax
import numpy as np
import pytest

from genlab.latents import vectors


def test_a_tree_of_two_grids_is_one_vector_per_example_and_back():
    random = np.random.RandomState(0)
    codes = {'top': np.float32(random.randn(5, 2, 2, 3)), 'bottom': np.float32(random.randn(5, 4, 4, 1))}
    layout, flat = vectors.layout_of(codes), vectors.flatten(codes)
    assert flat.shape == (5, 28) and layout.size == 28 and hash(layout) == hash(vectors.layout_of(codes))
    np.testing.assert_array_equal(flat[3, :16], codes['bottom'][3].ravel())  # ordered by name
    for restored in (layout.restore(flat), jax.jit(layout.restore)(flat)):
        assert {*restored} == {'top', 'bottom'}
        jax.tree.map(np.testing.assert_array_equal, restored, codes)
    np.testing.assert_array_equal(layout.restore(flat[:2])['top'], codes['top'][:2])


def test_a_single_array_is_reshaped():
    codes = np.arange(12.0, dtype=np.float32).reshape(3, 2, 2)
    np.testing.assert_array_equal(vectors.flatten(codes), codes.reshape(3, 4))
    np.testing.assert_array_equal(vectors.layout_of(codes).restore(codes.reshape(3, 4)), codes)


def test_discrete_codes_are_refused():
    with pytest.raises(TypeError, match='codes of int32'):
        vectors.layout_of({'top': np.zeros((2, 3), np.float32), 'bottom': np.zeros((2, 3), np.int32)})
