"""Regularised multinomial logistic regression: many weightings of one data set, solved together.

Cross-validation asks for the same problem with other examples left out each time. Here those problems share
one Gram matrix, one preconditioner and every matrix product; a problem is a row of example weights. Knows
nothing about folds, labels or calibration.

Each problem minimises over W    sum_i w_i (-log p_i[y_i]) + |W|^2 / (2 C),   p = softmax(Phi W),
where Phi holds the centred features and a constant column, so the intercept is (weakly) penalised too.

Method: nonlinear conjugate gradients (Polak and Ribiere 1969), preconditioned by (a Phi' Phi + b I)^-1, the
form of Boehning's curvature bound ("Multinomial logistic regression algorithm", 1992) with a measured scale.
The step is Newton's along the direction. When it overshoots in the sense of Hager and Zhang's approximate
Wolfe condition (SIAM J. Optim. 16, 2005), it falls back to the length that self-concordance proves to descend
(Bach, "Self-concordant analysis for logistic regression", EJS 4, 2010).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import lapack

from training.errors import SupportSetError
from training.heads.support import Ints
from training.heads.transform import Floats

CURVATURE = 0.25  # of the curvature 1 / k at uniform probabilities; 0.1 to 1 differ by a step or two
RIDGE = 0.1  # b of the preconditioner: 1 / C in the middle of the grid
OVERSHOOT = 0.8  # 1 - 2 delta of the approximate Wolfe condition with delta = 0.1
LEAST_DESCENT = 0.01  # share of the preconditioned gradient's slope below which conjugacy is given up
INTERCEPT = 1.0  # value of the constant column
DUAL_LIMIT = 2.0  # in the span of the examples while n <= 2 d: one (n, n) product against two of (n, d)
MAX_STEPS = 200
TINY = np.float32(1e-30)


class Geometry(Protocol):
    """Where coefficients live: in the span of the examples (`Dual`) or in feature space (`Primal`).

    Coefficients and gradients are (p, k, r) float32; scores and their changes ("images") are (p, k, n).
    """

    @property
    def coordinates(self) -> int:
        """Length r of a coefficient vector."""

    def gradient(self, residual: Floats, coefficients: Floats, penalty: float) -> Floats:
        """Gradient from the residual (p, k, n), which it may overwrite."""

    def direction(self, gradient: Floats) -> tuple[Floats, Floats]:
        """Preconditioned descent direction and its image."""

    def inner(self, left: Floats, right: Floats, right_image: Floats) -> Floats:
        """Inner product in feature space, of each problem: (p,)."""

    def primal(self, coefficients: Floats) -> Floats:
        """Weights of the only problem in feature space: (k, d + 1)."""


@dataclass(frozen=True, eq=False)
class Dual:
    """W = Phi' A with A (p, k, n): every product is with one (n, n) matrix."""

    design: Floats
    inverse: Floats
    curvature: float

    @property
    def coordinates(self) -> int:
        return len(self.design)

    def gradient(self, residual: Floats, coefficients: Floats, penalty: float) -> Floats:
        residual += np.float32(penalty) * coefficients
        return residual

    def direction(self, gradient: Floats) -> tuple[Floats, Floats]:
        step = _product(gradient, self.inverse)
        np.negative(step, out=step)
        # (a K + b I) step = -gradient, so K step needs no product of its own.
        image = step * np.float32(RIDGE)
        image += gradient
        image *= np.float32(-1 / self.curvature)
        return step, image

    def inner(self, left: Floats, right: Floats, right_image: Floats) -> Floats:
        return _dot(left, right_image)

    def primal(self, coefficients: Floats) -> Floats:
        return np.asarray(coefficients[0] @ self.design)


@dataclass(frozen=True, eq=False)
class Primal:
    """W (p, k, d + 1) itself, for more examples than dimensions."""

    design: Floats
    inverse: Floats

    @property
    def coordinates(self) -> int:
        return int(self.design.shape[1])

    def gradient(self, residual: Floats, coefficients: Floats, penalty: float) -> Floats:
        gradient = _product(residual, self.design)
        gradient += np.float32(penalty) * coefficients
        return gradient

    def direction(self, gradient: Floats) -> tuple[Floats, Floats]:
        step = _product(gradient, self.inverse)
        np.negative(step, out=step)
        return step, _product(step, self.design.T)

    def inner(self, left: Floats, right: Floats, right_image: Floats) -> Floats:
        return _dot(left, right)

    def primal(self, coefficients: Floats) -> Floats:
        return np.asarray(coefficients[0])


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients (p, k, r), scores (p, k, n) of every example, held out or not, and how it ended."""

    coefficients: Floats
    scores: Floats
    steps: int
    converged: bool

    def last(self) -> "Solution":
        """The last problem alone, as a start for another solve."""
        return Solution(self.coefficients[-1:], self.scores[-1:], self.steps, self.converged)


def geometry(features: Floats, center: Floats, classes: int) -> Geometry:
    """Prepare the products that every problem on these features shares.

    Parameters
    ----------
    features : (n, d) float32
    center : (d,) float32, subtracted from every row
    classes : number of classes k
    """
    design = np.full((len(features), features.shape[1] + 1), INTERCEPT, dtype=np.float32)
    np.subtract(features, center, out=design[:, :-1])
    curvature = CURVATURE / classes
    if len(design) <= DUAL_LIMIT * design.shape[1]:
        return Dual(design, _inverse(design @ design.T, curvature), curvature)
    return Primal(design, _inverse(design.T @ design, curvature))


def solve(
    shape: Geometry,
    targets: Ints,
    weights: Floats,
    regularisation: float,
    tolerance: float,
    start: Solution | None = None,
) -> Solution:
    """Solve p problems at once.

    Parameters
    ----------
    shape : the prepared features
    targets : (n,) int64 class of each example; the largest is k - 1
    weights : (p, n) float32, the weight of each example in each problem; 0 leaves it out
    regularisation : C
    tolerance : stop when every problem's estimated excess loss is below `tolerance` per unit of weight
    start : a solution of the same problems at another C
    """
    if start is None:
        problems, classes = len(weights), int(targets.max()) + 1
        coefficients = np.zeros((problems, classes, shape.coordinates), dtype=np.float32)
        scores = np.zeros((problems, classes, len(targets)), dtype=np.float32)
    else:
        coefficients, scores = start.coefficients.copy(), start.scores.copy()
    descent = _Descent(shape, targets, weights, 1 / regularisation, coefficients, scores)
    goal = np.float32(tolerance) * weights.sum(axis=1)
    steps = 0
    while steps < MAX_STEPS and descent.advance(goal):
        steps += 1
    return Solution(coefficients, scores, steps, converged=steps < MAX_STEPS)


class _Descent:
    """Conjugate gradients of p problems; moves `coefficients` and `scores` in place."""

    def __init__(
        self,
        shape: Geometry,
        targets: Ints,
        weights: Floats,
        penalty: float,
        coefficients: Floats,
        scores: Floats,
    ) -> None:
        self.shape, self.penalty = shape, penalty
        self.coefficients, self.scores = coefficients, scores
        self.weights, self.targets, self.rows = weights[:, None, :], targets, np.arange(len(targets))
        self.update()
        self.way, self.image = np.zeros_like(coefficients), np.zeros_like(scores)
        self.previous_gradient = self.gradient
        self.previous_decrement = np.full(len(weights), np.inf, dtype=np.float32)

    def update(self) -> None:
        """Probabilities and gradient at the current scores."""
        self.probabilities = softmax(self.scores)
        residual = self.probabilities * self.weights
        residual[:, self.targets, self.rows] -= self.weights[:, 0, :]
        self.gradient = self.shape.gradient(residual, self.coefficients, self.penalty)

    def advance(self, goal: Floats) -> bool:
        """One step of every problem that is not done; False when all are."""
        step, image = self.shape.direction(self.gradient)
        decrement = -self.shape.inner(self.gradient, step, image)
        active = decrement > goal
        if not active.any():
            return False
        slope = self._turn(step, image, decrement)
        length = np.where(active, self._newton_length(slope), np.float32(0))
        self.previous_gradient, self.previous_decrement = self.gradient, np.maximum(decrement, TINY)
        self._move(length)
        overshoot = self.shape.inner(self.gradient, self.way, self.image) > -OVERSHOOT * slope
        if overshoot.any():
            self._move(np.where(overshoot, self._safe_length(length) - length, np.float32(0)))
        return True

    def _turn(self, step: Floats, image: Floats, decrement: Floats) -> Floats:
        """Turn the way, conjugate to the last one if that still descends; return the slope along it: (p,)."""
        change = decrement + self.shape.inner(self.previous_gradient, step, image)
        ratio = np.maximum(change / self.previous_decrement, np.float32(0))
        slope = ratio * self.shape.inner(self.gradient, self.way, self.image) - decrement
        ratio = np.where(slope < -LEAST_DESCENT * decrement, ratio, np.float32(0))
        self.way *= ratio[:, None, None]
        self.way += step
        self.image *= ratio[:, None, None]
        self.image += image
        return np.asarray(np.where(ratio > 0, slope, -decrement))

    def _newton_length(self, slope: Floats) -> Floats:
        spread = self.probabilities * self.image
        spread -= self.probabilities * spread.sum(axis=1, keepdims=True)
        spread *= self.weights
        penalty = np.float32(self.penalty) * self.shape.inner(self.way, self.way, self.image)
        return np.asarray(-slope / np.maximum(_dot(spread, self.image) + penalty, TINY))

    def _safe_length(self, length: Floats) -> Floats:
        """log(1 + r t) / r cannot raise the loss: t is Newton's length, r the largest change of a margin."""
        reach = np.maximum((self.image.max(axis=1) - self.image.min(axis=1)).max(axis=1), TINY)
        return np.asarray(np.log1p(reach * length) / reach)

    def _move(self, length: Floats) -> None:
        self.coefficients += length[:, None, None] * self.way
        self.scores += length[:, None, None] * self.image
        self.update()


def softmax(scores: Floats) -> Floats:
    """Probabilities over axis 1 of (p, k, n)."""
    result = scores - scores.max(axis=1, keepdims=True)
    np.exp(result, out=result)
    result /= result.sum(axis=1, keepdims=True)
    return np.asarray(result)


def _inverse(gram: Floats, curvature: float) -> Floats:
    """(a gram + b I)^-1 by Cholesky."""
    matrix = gram * np.float32(curvature)
    matrix.flat[:: len(matrix) + 1] += np.float32(RIDGE)
    factor, failed = lapack.spotrf(matrix, lower=1, overwrite_a=1, clean=0)
    inverse, singular = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or singular:
        raise SupportSetError("embeddings: their Gram matrix is not positive definite in float32")
    lower = np.tril(inverse)
    lower += np.tril(inverse, -1).T
    return np.ascontiguousarray(lower)


def _product(arrays: Floats, matrix: Floats) -> Floats:
    flat = arrays.reshape(-1, arrays.shape[2]) @ matrix
    return np.asarray(flat.reshape(*arrays.shape[:2], -1))


def _dot(left: Floats, right: Floats) -> Floats:
    """Sum of products of each problem: (p,)."""
    return np.asarray(np.vecdot(left.reshape(len(left), -1), right.reshape(len(right), -1)))
