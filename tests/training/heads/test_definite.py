import numpy as np
import pytest
from scipy.linalg import LinAlgError

from training.heads.definite import LEAF_ROWS, inverse_of, solve_definite

SIZES = (1, 2, LEAF_ROWS, LEAF_ROWS + 1, 300, 517)


def _definite(size, dtype):
    factor = np.random.default_rng(size).standard_normal((size, size + 5))
    return (factor @ factor.T / size).astype(dtype), np.linspace(0.5, 2, size).astype(dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "off"), [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_the_inverse_is_that_of_numpy(size, dtype, off):
    matrix, diagonal = _definite(size, dtype)
    before = matrix.copy()
    found = inverse_of(matrix, diagonal)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(matrix, before)
    expected = np.linalg.inv(matrix.astype(np.float64) + np.diag(diagonal))
    np.testing.assert_allclose(found, expected, atol=off * np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("columns", [1, 200])
def test_solved_as_numpy_does(size, columns):
    matrix, diagonal = _definite(size, np.float32)
    matrix += np.diag(diagonal)
    right = np.random.default_rng(0).standard_normal((size, columns)).astype(np.float32)
    np.testing.assert_allclose(solve_definite(matrix, right), np.linalg.solve(matrix, right), atol=1e-3)


@pytest.mark.parametrize("place", [0, 70, 299])
def test_a_matrix_that_is_not_definite_is_refused_and_still_solved(place):
    matrix, diagonal = _definite(300, np.float32)
    diagonal[place] = -100
    with pytest.raises(LinAlgError):
        inverse_of(matrix, diagonal)
    matrix += np.diag(diagonal)
    for columns in (1, 200):
        right = np.ones((300, columns), dtype=np.float32)
        np.testing.assert_allclose(matrix @ solve_definite(matrix, right), right, atol=1e-3)
