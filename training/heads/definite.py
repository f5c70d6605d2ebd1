"""Symmetric positive definite matrices: their inverse, and equations with them. Knows no example, no label.

LAPACK inverts a triangular factor in strips that are narrow for a processor. Halving the matrix instead turns
nearly all of the work into products of large blocks (Bientinesi, Gunter and van de Geijn, "Families of
algorithms related to the inversion of a symmetric positive definite matrix", ACM TOMS 35, 2008): a third less
time at 1,200 rows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, blas, lapack

LEAF_ROWS = 64  # up to which LAPACK is as fast
FEW_COLUMNS = 3  # times this below the rows: solving for them costs less than an inverse
MIRRORED_ROWS = 128  # at a time: a strip that a processor's cache holds

Numbers = npt.NDArray[np.floating]


def inverse_of(matrix: Numbers, diagonal: Numbers) -> Numbers:
    """(matrix + diag(diagonal))^-1, in the precision of the matrix.

    Parameters
    ----------
    matrix : (n, n), symmetric
    diagonal : (n,)

    Raises
    ------
    LinAlgError
        In this precision the sum is not positive definite.
    """
    # A symmetric matrix reads the same in Fortran's order, which LAPACK expects.
    factor = _inverse_factor(matrix.T, diagonal)
    inverse = np.asarray(_routine(lapack, "lauum", factor)(factor, lower=1, overwrite_c=1)[0].T)
    for start in range(0, len(inverse), MIRRORED_ROWS):
        stop = start + MIRRORED_ROWS
        inverse[stop:, start:stop] = inverse[start:stop, stop:].T
        square = inverse[start:stop, start:stop]
        square += np.triu(square, 1).T
    return inverse


def solve_definite(matrix: Numbers, right: Numbers) -> Numbers:
    """matrix^-1 @ right; in float64 where rounding has left the matrix not quite positive definite.

    Parameters
    ----------
    matrix : (n, n), symmetric
    right : (n, m), of the same type
    """
    if FEW_COLUMNS * right.shape[1] < len(matrix):
        _, solved, failed = _routine(lapack, "posv", matrix)(matrix.T, right, lower=1)
        if not failed:
            return np.asarray(solved)
    else:
        try:
            return np.asarray(inverse_of(matrix, np.zeros(len(matrix), dtype=matrix.dtype)) @ right)
        except LinAlgError:
            pass
    return np.linalg.solve(matrix.astype(np.float64), right)


def _inverse_factor(matrix: Numbers, diagonal: Numbers) -> Numbers:
    """W (n, n), lower triangular, so that W.T @ W is the inverse; only the lower triangle is read."""
    size = len(matrix)
    if size <= LEAF_ROWS:
        leaf = np.array(matrix, order="F")
        leaf.T.flat[:: size + 1] += diagonal
        factor, failed = _routine(lapack, "potrf", leaf)(leaf, lower=1, clean=1, overwrite_a=1)
        if failed:
            raise LinAlgError("not positive definite")
        return np.asarray(_routine(lapack, "trtri", leaf)(factor, lower=1, overwrite_c=1)[0])
    half = size // 2
    multiply = _routine(blas, "trmm", matrix)
    whole = np.zeros_like(matrix, order="F")
    first = whole[:half, :half] = _inverse_factor(matrix[:half, :half], diagonal[:half])
    corner = np.array(matrix[half:, :half], order="F")
    corner = multiply(1, first, corner, side=1, lower=1, trans_a=1, overwrite_b=1)
    rest = np.array(matrix[half:, half:], order="F")
    rest = _routine(blas, "syrk", matrix)(-1, corner, beta=1, c=rest, lower=1, overwrite_c=1)
    second = whole[half:, half:] = _inverse_factor(rest, diagonal[half:])
    corner = multiply(-1, second, corner, lower=1, overwrite_b=1)
    whole[half:, :half] = multiply(1, first, corner, side=1, lower=1, overwrite_b=1)
    return whole


def _routine(library: Any, name: str, matrix: Numbers) -> Any:
    """The routine for the precision of a matrix."""
    return getattr(library, ("s" if matrix.dtype == np.float32 else "d") + name)
