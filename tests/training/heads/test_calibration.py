import numpy as np
import pytest

from training.heads.calibration import SharpnessPrior, calibration_error, fit_temperature, probabilities

WIDE = SharpnessPrior(center=0.0, deviation=10.0)


def _drawn(n, sharpness, seed=0):
    """Scores, and targets drawn from softmax(sharpness * scores)."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, 4))
    chances = probabilities(scores, 1 / sharpness)
    targets = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return scores, targets.astype(np.int64)


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0, 20.0])
def test_finds_the_temperature_that_made_the_labels(sharpness):
    scores, targets = _drawn(20000, sharpness)
    assert fit_temperature(scores, targets, np.ones(20000), WIDE) == pytest.approx(1 / sharpness, rel=0.1)


def test_no_scores_give_the_prior():
    empty = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0)
    assert fit_temperature(*empty, SharpnessPrior(np.log(4), 0.5)) == pytest.approx(0.25)


def test_a_perfect_score_on_few_examples_does_not_end_in_certainty():
    scores = np.array([[3.0, 0.0], [0.0, 3.0]])
    temperature = fit_temperature(scores, np.array([0, 1]), np.ones(2), SharpnessPrior(0.0, 0.7))
    assert 0.3 < temperature < 1


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_wild_scores_end_in_a_finite_temperature(scale):
    scores, targets = _drawn(50, 1.0)
    temperature = fit_temperature(scores * scale, targets[::-1], np.ones(50), SharpnessPrior(0.0, 0.7))
    assert np.isfinite(temperature)
    assert temperature > 0


def test_calibration_error_of_honest_and_of_boastful_chances():
    scores, targets = _drawn(20000, 2.0)
    assert calibration_error(probabilities(scores, 0.5), targets) < 0.02
    sure = np.tile([0.9, 0.1], (100, 1))
    assert calibration_error(sure, np.repeat([0, 1], 50)) == pytest.approx(0.4)
