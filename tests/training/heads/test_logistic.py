import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tests.training.heads.clouds import clouds
from training.heads import logistic
from training.heads.transform import signed_power_l2


def _problem(classes, shots, dim, spread=1.0):
    embeddings, labels = clouds(classes, shots, dim=dim, spread=spread)
    features = signed_power_l2(embeddings)
    return features, np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _solve(features, targets, weights, c, tolerance=1e-10):
    shape = logistic.geometry(features, features.mean(axis=0), int(targets.max()) + 1)
    return shape, logistic.solve(shape, targets, weights, c, tolerance)


def _probabilities(scores):
    return logistic.softmax(scores.astype(np.float64))


@pytest.mark.parametrize(("classes", "shots", "dim"), [(2, 10, 48), (5, 8, 48), (3, 60, 16), (30, 3, 24)])
@pytest.mark.parametrize("c", [0.1, 10.0, 1000.0])
def test_same_optimum_as_scikit_learn(classes, shots, dim, c):
    features, targets = _problem(classes, shots, dim, spread=2.0)
    weights = np.random.default_rng(1).uniform(0.2, 2, len(targets)).astype(np.float32)
    shape, solution = _solve(features, targets, weights[None, :], c)
    # The intercept is a column of ones there too. Two classes: scikit-learn has one weight vector for the
    # difference of ours, whose penalty is half as large.
    design = np.hstack([features - features.mean(axis=0), np.ones((len(features), 1), np.float32)])
    oracle = LogisticRegression(
        C=c * (2 if classes == 2 else 1), fit_intercept=False, tol=1e-10, max_iter=20000
    )
    oracle.fit(design.astype(np.float64), targets, sample_weight=weights)
    assert solution.converged
    np.testing.assert_allclose(_probabilities(solution.scores)[0].T, oracle.predict_proba(design), atol=2e-3)
    joined = shape.primal(solution.coefficients)
    np.testing.assert_allclose(
        design @ joined.T, solution.scores[0].T, atol=2e-3 * np.abs(solution.scores).max()
    )


def test_dual_and_primal_agree():
    features, targets = _problem(3, 12, 40)
    center, weights = features.mean(axis=0), np.ones((1, len(targets)), np.float32)
    dual = logistic.geometry(features, center, 3)
    assert isinstance(dual, logistic.Dual)
    inverse = np.linalg.inv(dual.curvature * dual.design.T @ dual.design + logistic.RIDGE * np.eye(41))
    primal = logistic.Primal(dual.design, inverse.astype(np.float32))
    one = logistic.solve(dual, targets, weights, 10, 1e-10)
    other = logistic.solve(primal, targets, weights, 10, 1e-10)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
    np.testing.assert_allclose(dual.primal(one.coefficients), primal.primal(other.coefficients), atol=1e-3)


def test_problems_solved_together_equal_problems_solved_alone():
    features, targets = _problem(4, 9, 48)
    weights = np.ones((3, len(targets)), np.float32)
    weights[0, ::3], weights[1, 1::3] = 0, 0
    _, together = _solve(features, targets, weights, 10)
    for index in range(3):
        _, alone = _solve(features, targets, weights[index : index + 1], 10)
        np.testing.assert_allclose(together.scores[index], alone.scores[0], atol=2e-3)


def test_an_example_left_out_does_not_count():
    features, targets = _problem(3, 8, 48)
    weights = np.ones((1, len(targets)), np.float32)
    weights[0, 5] = 0
    flipped = targets.copy()
    flipped[5] = (flipped[5] + 1) % 3
    _, one = _solve(features, targets, weights, 10)
    _, other = _solve(features, flipped, weights, 10)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_warm_start_ends_at_the_same_optimum():
    features, targets = _problem(3, 20, 30, spread=3.0)
    weights = np.ones((2, len(targets)), np.float32)
    weights[0, ::4] = 0
    shape = logistic.geometry(features, features.mean(axis=0), 3)
    start = logistic.solve(shape, targets, weights, 1, 1e-8)
    cold = logistic.solve(shape, targets, weights, 30, 1e-10)
    warm = logistic.solve(shape, targets, weights, 30, 1e-10, start)
    np.testing.assert_allclose(warm.scores, cold.scores, atol=3e-3)


def test_never_ends_above_the_loss_of_zero_weights():
    rng = np.random.default_rng(0)
    for trial in range(40):
        features = signed_power_l2(
            (rng.standard_normal((24, 6)) * 10.0 ** rng.uniform(-3, 3)).astype(np.float32)
        )
        targets = rng.permutation(np.repeat(np.arange(3), 8))
        weights = (10.0 ** rng.uniform(-2, 2, (1, 24))).astype(np.float32)
        c = 10.0 ** rng.uniform(-3, 6)
        _, solution = _solve(features, targets, weights, c, 1e-6)
        own = np.maximum(_probabilities(solution.scores)[0, targets, np.arange(24)], 1e-300)
        assert solution.converged or c > 1e4, (
            trial
        )  # float32 may stop short of 1e-6 where nearly nothing binds
        assert weights[0] @ -np.log(own) < weights[0].sum() * np.log(3)
