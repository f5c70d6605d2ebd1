import numpy as np
import pytest

from training.heads.calibration import (
    Calibration,
    SlopePrior,
    Usual,
    calibration_error,
    fit_sigmoids,
    fit_softmax,
    sigmoid,
)

WIDE = SlopePrior(center=0.0, deviation=10.0)
EVEN = Usual(middle=np.full(3, 0.5), log_odds=np.zeros(3))


def _drawn(n, slope, seed=0):
    """Scores, and targets drawn from softmax(slope * scores)."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, 4))
    chances = np.exp(slope * scores)
    chances /= chances.sum(axis=1, keepdims=True)
    targets = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return scores, targets.astype(np.int64)


@pytest.mark.parametrize("slope", [0.2, 1.0, 5.0, 20.0])
def test_finds_the_slope_that_made_the_labels(slope):
    scores, targets = _drawn(20000, slope)
    found = fit_softmax(scores, targets, np.ones(20000), WIDE)
    np.testing.assert_allclose(found.slope, slope, rtol=0.1)
    assert not found.offset.any()


def test_finds_the_sigmoids_that_made_the_labels():
    rng = np.random.default_rng(0)
    scores, offset = rng.standard_normal((20000, 3)), np.array([-2.0, 0.0, 1.0])
    labels = rng.random((20000, 3)) < sigmoid(3 * scores + offset)
    found = fit_sigmoids(scores, labels, np.ones(20000), WIDE, EVEN)
    np.testing.assert_allclose(found.slope, 3, rtol=0.1)
    np.testing.assert_allclose(found.offset, offset, atol=0.15)


def test_no_scores_give_the_prior():
    prior = SlopePrior(np.log(4), 0.5)
    empty = np.zeros((0, 3))
    np.testing.assert_allclose(fit_softmax(empty, np.zeros(0, np.int64), np.zeros(0), prior).slope, 4)
    found = fit_sigmoids(empty, np.zeros((0, 3), bool), np.zeros(0), prior, EVEN)
    np.testing.assert_allclose((found.slope, found.offset), ([4] * 3, [-2] * 3))


def test_a_perfect_score_on_few_examples_does_not_end_in_certainty():
    scores = np.array([[3.0, 0.0], [0.0, 3.0]])
    found = fit_softmax(scores, np.array([0, 1]), np.ones(2), SlopePrior(0.0, 0.7))
    assert 1 < found.slope[0] < 3


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_wild_scores_end_in_a_finite_slope(scale):
    scores, targets = _drawn(50, 1.0)
    prior = SlopePrior(0.0, 0.7)
    found = fit_softmax(scores * scale, targets[::-1], np.ones(50), prior)
    assert np.isfinite(found.slope).all()
    assert (found.slope > 0).all()
    usual = Usual(middle=np.full(4, 0.5), log_odds=np.zeros(4))
    other = fit_sigmoids(scores * scale, targets[:, None] == np.arange(4), np.ones(50), prior, usual)
    assert np.isfinite(other.slope).all()
    assert np.isfinite(other.probabilities(scores * scale)).all()


def test_calibration_error_of_honest_and_of_boastful_chances():
    scores, targets = _drawn(20000, 2.0)
    chances = fit_softmax(scores, targets, np.ones(20000), WIDE).probabilities(scores)
    assert calibration_error(chances.max(axis=1), chances.argmax(axis=1) == targets) < 0.02
    assert calibration_error(np.full(100, 0.9), np.arange(100) < 50) == pytest.approx(0.4)


def test_log_losses_of_what_is_too_improbable_for_its_precision():
    scores = np.array([[0.0, 1.0, 0.5], [0.3, 0.1, 0.2]], dtype=np.float32)
    calibration = Calibration(np.full(3, 400.0), np.zeros(3), softmax=True)
    found = calibration.losses(scores, np.array([[0, 1], [1, 0]]))
    assert calibration.probabilities(scores)[0, 0] == 0
    np.testing.assert_allclose(found, [[400, 0], [80, 0]], atol=1e-4)
