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
MIRRORED_ROWS = 64  # at a time: a strip that a processor's cache holds

Numbers = npt.NDArray[np.floating]


def gram_of(rows: Numbers) -> Numbers:
    """Inner products of rows (n, d): (n, n), of which the part below the diagonal is left zero."""
    multiply = _routine(blas, "syrk", rows)
    if rows.flags.f_contiguous:
        return np.asarray(multiply(1, rows, lower=1).T)
    return np.asarray(multiply(1, rows.T, trans=1, lower=1).T)


def inverse_of(matrix: Numbers, diagonal: Numbers) -> Numbers:
    """(matrix + diag(diagonal))^-1, in the precision of the matrix.

    Parameters
    ----------
    matrix : (n, n), symmetric; what is below its diagonal is not read
    diagonal : (n,)

    Raises
    ------
    LinAlgError
        In this precision the sum is not positive definite.
    """
    if len(matrix) <= LEAF_ROWS:
        inverse = np.empty_like(matrix)
        _mirror(_product(inverse_factor(matrix, diagonal)), inverse)
        return inverse
    # With the factor in three blocks, the inverse is written once, and the factor as a whole never.
    first, corner, second = _factor_blocks(matrix.T, diagonal)
    half, inverse = len(first), np.empty_like(matrix)
    rest = _routine(blas, "syrk", first)(
        1, corner, trans=1, beta=1, c=_product(first), lower=1, overwrite_c=1
    )
    _mirror(rest, inverse[:half, :half])
    corner = _routine(blas, "trmm", first)(1, second, corner, lower=1, trans_a=1, overwrite_b=1)
    inverse[half:, :half] = corner
    inverse[:half, half:] = corner.T
    _mirror(_product(second), inverse[half:, half:])
    return inverse


def inverse_factor(matrix: Numbers, diagonal: Numbers) -> Numbers:
    """W (n, n), lower triangular in Fortran's order: W.T @ W is what `inverse_of` gives, at a third less."""
    # A symmetric matrix reads the same in Fortran's order, which LAPACK expects.
    return _factor(matrix.T, diagonal)


def multiplied(factor: Numbers, rows: Numbers, *, overwrite: bool = False) -> Numbers:
    """rows (m, n) @ factor.T, for a factor of `inverse_factor`; squared, the lengths that the inverse gives.

    Parameters
    ----------
    overwrite : whether the rows may be lost, which saves memory
    """
    multiply = _routine(blas, "trmm", factor)
    return np.asarray(multiply(1, factor, rows.T, lower=1, overwrite_b=overwrite).T)


def inverse_times(factor: Numbers, rows: Numbers) -> Numbers:
    """rows (m, n) @ inverse, for the factor of the inverse."""
    half = multiplied(factor, rows)
    return np.asarray(_routine(blas, "trmm", factor)(1, factor, half.T, lower=1, trans_a=1, overwrite_b=1).T)


def solve_definite(matrix: Numbers, right: Numbers) -> Numbers:
    """matrix^-1 @ right; in float64 where rounding has left the matrix not quite positive definite.

    Parameters
    ----------
    matrix : (n, n), symmetric; what is below its diagonal is not read
    right : (n, m), of the same type
    """
    if FEW_COLUMNS * right.shape[1] < len(matrix):
        _, solved, failed = _routine(lapack, "posv", matrix)(matrix.T, right, lower=1)
        if not failed:
            return np.asarray(solved)
    else:
        try:
            factor = inverse_factor(matrix, np.zeros(len(matrix), dtype=matrix.dtype))
            multiply = _routine(blas, "trmm", matrix)
            half = multiply(1, factor, right.T, side=1, lower=1, trans_a=1)
            return np.asarray(multiply(1, factor, half, side=1, lower=1, overwrite_b=1).T)
        except LinAlgError:
            pass
    whole = np.triu(matrix).astype(np.float64)
    return np.linalg.solve(whole + np.triu(whole, 1).T, right)


def _factor(matrix: Numbers, diagonal: Numbers) -> Numbers:
    """W (n, n), lower triangular, so that W.T @ W is the inverse; only the lower triangle is read."""
    size = len(matrix)
    if size <= LEAF_ROWS:
        leaf = np.array(matrix, order="F")
        leaf.T.flat[:: size + 1] += diagonal
        factor, failed = _routine(lapack, "potrf", leaf)(leaf, lower=1, clean=1, overwrite_a=1)
        if failed:
            raise LinAlgError("not positive definite")
        return np.asarray(_routine(lapack, "trtri", leaf)(factor, lower=1, overwrite_c=1)[0])
    first, corner, second = _factor_blocks(matrix, diagonal)
    half, whole = len(first), np.empty_like(matrix, order="F")
    whole[:half, :half] = first
    whole[half:, :half] = corner
    whole[:half, half:] = 0
    whole[half:, half:] = second
    return whole


def _factor_blocks(matrix: Numbers, diagonal: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The blocks of W on, below and on the diagonal, each in Fortran's order."""
    half = len(matrix) // 2
    multiply = _routine(blas, "trmm", matrix)
    first = _factor(matrix[:half, :half], diagonal[:half])
    corner = np.array(matrix[half:, :half], order="F")
    corner = multiply(1, first, corner, side=1, lower=1, trans_a=1, overwrite_b=1)
    rest = np.array(matrix[half:, half:], order="F")
    rest = _routine(blas, "syrk", matrix)(-1, corner, beta=1, c=rest, lower=1, overwrite_c=1)
    second = _factor(rest, diagonal[half:])
    corner = multiply(-1, second, corner, lower=1, overwrite_b=1)
    return first, multiply(1, first, corner, side=1, lower=1, overwrite_b=1), second


def _product(factor: Numbers) -> Numbers:
    """factor.T @ factor, its lower triangle; the factor is lost."""
    return np.asarray(_routine(lapack, "lauum", factor)(factor, lower=1, overwrite_c=1)[0])


def _mirror(lower: Numbers, out: Numbers) -> None:
    """Write a symmetric matrix, of which the lower triangle is known in Fortran's order."""
    out[...] = lower.T
    for start in range(0, len(out), MIRRORED_ROWS):
        stop = start + MIRRORED_ROWS
        out[stop:, start:stop] = lower[stop:, start:stop]
        upper = np.triu(out[start:stop, start:stop])
        out[start:stop, start:stop] = upper + np.triu(upper, 1).T


def _routine(library: Any, name: str, matrix: Numbers) -> Any:
    """The routine for the precision of a matrix."""
    return getattr(library, ("s" if matrix.dtype == np.float32 else "d") + name)
