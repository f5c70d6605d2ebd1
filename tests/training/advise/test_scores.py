"""Transferability scores against their papers' formulas, written out slowly."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from training.advise.scores import h_score, leep, log_me


def clouds(count: int, dims: int, classes: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count + dims)
    labels = rng.permutation(np.arange(count) % classes)
    centres = apart * rng.normal(size=(classes, dims))
    return centres[labels] + rng.normal(size=(count, dims)) + 0.3, labels


def slow_log_me(features: np.ndarray, targets: np.ndarray) -> float:
    """The evidence as the density of the labels, its two precisions found by a general minimiser."""
    count = len(features)

    def loss(logs: np.ndarray, column: np.ndarray) -> float:
        covariance = np.exp(-logs[0]) * features @ features.T + np.exp(-logs[1]) * np.eye(count)
        return -multivariate_normal.logpdf(column, np.zeros(count), covariance)

    starts = [np.array([a, b]) for a in (-2.0, 2.0, 5.0) for b in (0.0, 3.0)]
    best = [
        min(minimize(loss, s, args=(column,), method="Nelder-Mead").fun for s in starts)
        for column in targets.T
    ]
    return -float(np.mean(best)) / count


@pytest.mark.parametrize(("count", "dims", "classes"), [(40, 6, 3), (24, 60, 2)])
def test_log_me_is_the_largest_evidence(count: int, dims: int, classes: int) -> None:
    features, labels = clouds(count, dims, classes)
    targets = (labels[:, None] == np.arange(classes)).astype(float)
    assert log_me(features, targets) == pytest.approx(slow_log_me(features, targets), abs=2e-4)


def slow_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """tr(shrunk cov(f)^-1 (1 - a) cov(E[f | y])), with scikit-learn's shrinkage."""
    shrunk, shrinkage = ledoit_wolf(features)
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    between = np.cov(means, rowvar=False, bias=True)
    return float(np.trace(np.linalg.inv(shrunk) @ ((1 - shrinkage) * between)))


@pytest.mark.parametrize(("count", "dims", "classes"), [(60, 5, 3), (30, 80, 4), (9, 40, 3)])
def test_h_score_is_its_formula(count: int, dims: int, classes: int) -> None:
    features, labels = clouds(count, dims, classes)
    assert h_score(features, labels) == pytest.approx(slow_h_score(features, labels), rel=1e-9)


def test_leep_is_its_formula() -> None:
    rng = np.random.default_rng(3)
    chances = rng.dirichlet(np.ones(5), size=30)
    labels = np.arange(30) % 3
    total = 0.0
    for i in range(30):
        expected = 0.0
        for z in range(5):
            joint = [sum(chances[j, z] for j in range(30) if labels[j] == y) / 30 for y in range(3)]
            expected += joint[labels[i]] / sum(joint) * chances[i, z]
        total += np.log(expected)
    assert leep(chances, labels) == pytest.approx(total / 30, rel=1e-12)


def test_all_scores_rise_with_the_separation() -> None:
    found = []
    for apart in (0.1, 0.5, 2.0):
        features, labels = clouds(90, 12, 3, apart)
        targets = (labels[:, None] == np.arange(3)).astype(float)
        chances = np.exp(features) / np.exp(features).sum(axis=1, keepdims=True)
        found.append((log_me(features, targets), h_score(features, labels), leep(chances, labels)))
    assert np.all(np.diff(np.array(found), axis=0) > 0)


def test_features_that_say_nothing_have_scores_too() -> None:
    labels = np.array([0, 0, 1, 1])
    targets = (labels[:, None] == np.arange(2)).astype(float)
    constant, zero = np.ones((4, 3)), np.zeros((4, 3))
    assert h_score(constant, labels) == h_score(zero, labels) == 0
    assert np.isfinite([log_me(constant, targets), log_me(zero, targets)]).all()
