import numpy as np
import pytest
from scipy.linalg import LinAlgError

from training.heads.definite import (
    LEAF_ROWS,
    gram_of,
    inverse_factor,
    inverse_of,
    inverse_times,
    multiplied,
    solve_definite,
)

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


@pytest.mark.parametrize("order", ["C", "F"])
def test_inner_products_are_those_of_numpy_above_the_diagonal(order):
    rows = np.asarray(np.random.default_rng(0).standard_normal((70, 9)), dtype=np.float32, order=order)
    found = gram_of(rows)
    np.testing.assert_allclose(found, np.triu(rows @ rows.T), atol=1e-5)


def test_what_is_below_the_diagonal_is_not_read():
    matrix, diagonal = _definite(300, np.float32)
    upper = np.triu(matrix)
    np.testing.assert_array_equal(inverse_of(upper, diagonal), inverse_of(matrix, diagonal))
    matrix += np.diag(diagonal)
    for columns in (1, 200):
        right = np.ones((300, columns), dtype=np.float32)
        solved = solve_definite(np.triu(matrix), right)
        np.testing.assert_array_equal(solved, solve_definite(matrix, right))
    matrix[0, 0] = -1  # not definite: solved another way
    np.testing.assert_allclose(
        solve_definite(np.triu(matrix), right), np.linalg.solve(matrix.astype(np.float64), right), rtol=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_factor_gives_the_inverse_and_its_lengths(size):
    matrix, diagonal = _definite(size, np.float32)
    factor, rows = inverse_factor(matrix, diagonal), np.eye(size, dtype=np.float32)
    before, inverse = rows.copy(), inverse_of(matrix, diagonal)
    off = 1e-4 * np.abs(inverse).max()
    np.testing.assert_allclose(inverse_times(factor, rows), inverse, atol=off)
    half = multiplied(factor, rows)
    np.testing.assert_allclose(np.vecdot(half, half), np.diagonal(inverse), atol=off)
    np.testing.assert_array_equal(rows, before)
