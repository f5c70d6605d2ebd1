import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss

from tests.training.heads.clouds import clouds
from training.heads import FitOptions, fit_head
from training.heads.calibration import probabilities
from training.heads.fit import _select
from training.heads.folds import deal
from training.heads.report import wilson_interval
from training.heads.support import gather


@pytest.fixture(scope="module")
def hard():
    return clouds(4, 15, dim=24, spread=5.0, seed=3)


def test_figures_are_those_of_the_held_out_predictions(hard):
    embeddings, labels = hard
    report = fit_head(embeddings, labels, extractor_digest="d").report
    support = gather(embeddings, labels, 0)
    selected = _select(support, deal(support), FitOptions())
    chances = probabilities(selected.scores, selected.temperature)
    names = np.array(support.labels)
    truth, answer = names[support.targets[selected.rows]], names[chances.argmax(axis=1)]
    assert report.confusion["labels"] == sorted(set(labels))
    np.testing.assert_array_equal(report.confusion["matrix"], confusion_matrix(truth, answer))
    assert report.accuracy == pytest.approx(np.mean(truth == answer))
    assert report.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, answer))
    order = np.argsort(names)
    assert report.log_loss == pytest.approx(log_loss(truth, chances[:, order], labels=list(names[order])))
    assert report.accuracy_low < report.accuracy < report.accuracy_high
    assert report.held_out == report.examples == 60
    for row, column in zip(report.per_class, range(4), strict=True):
        matrix = np.array(report.confusion["matrix"])
        assert row["recall"] == pytest.approx(matrix[column, column] / matrix[column].sum())
        assert row["precision"] == pytest.approx(matrix[column, column] / matrix[:, column].sum())


@pytest.mark.parametrize("method", ["logistic", "nearest_mean"])
def test_a_held_out_score_is_that_of_a_head_without_the_example(hard, method):
    """The stacked folds against heads really fitted without them."""
    embeddings, labels = hard
    support = gather(embeddings, labels, 0)
    folds = deal(support)
    options = FitOptions(method=method, regularisation=10.0)
    selected = _select(support, folds, options)
    names = np.array(support.labels)
    for fold in range(3):
        inside = folds.assignment == fold
        kept = support.features[~inside]
        weights = folds.weights(support.targets, 4)[fold]
        assert (weights[inside] == 0).all()
        shown = gather(np.sign(kept) * np.abs(kept) ** (4 / 3), names[support.targets[~inside]].tolist(), 0)
        alone = _select(shown, deal(shown), options)
        scores = support.features[inside] @ alone.weights.T + alone.bias
        columns = [shown.labels.index(name) for name in support.labels]
        expected = scores[:, columns] - scores.mean(axis=1, keepdims=True)
        found = selected.scores[inside] - selected.scores[inside].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=0.06)  # scores span about 4


def test_classes_that_look_alike_are_named():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((60, 16)).astype(np.float32)
    embeddings[40:] += 8
    report = fit_head(embeddings, ["left", "right"] * 20 + ["far"] * 20, extractor_digest="d").report
    overlap = [warning["message"] for warning in report.warnings if warning["code"] == "classes_overlap"]
    assert len(overlap) == 1
    assert "'left' and 'right'" in overlap[0]


def test_clear_classes_give_no_warning():
    assert fit_head(*clouds(3, 12), extractor_digest="d").report.warnings == ()


def test_learning_compares_half_of_the_examples_with_all(hard):
    half, whole = fit_head(*hard, extractor_digest="d").report.learning
    assert half["examples_per_class"] == pytest.approx(whole["examples_per_class"] / 2)
    assert half["accuracy"] <= whole["accuracy"] + 0.15


def test_the_report_is_json_without_nan():
    for shots in (1, 2, 9):
        report = fit_head(*clouds(3, shots), extractor_digest="d").report.as_dict()
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        assert report["timings_ms"]["total"] > 0


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (95, 100, 0.8882, 0.9785)],
)
def test_wilson_interval_matches_published_values(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-4)
