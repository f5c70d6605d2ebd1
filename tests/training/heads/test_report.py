import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss

from tests.training.heads.clouds import clouds
from training.heads import FitOptions, fit_head
from training.heads.calibration import calibrate
from training.heads.figures import MAX_MATRIX
from training.heads.gathering import gather
from training.heads.learning import ask_part, forecast_accuracy
from training.heads.report import accuracy_interval
from training.heads.selection import select


@pytest.fixture(scope="module")
def hard():
    return clouds(4, 15, dim=24, spread=5.0, seed=3)


def test_figures_are_those_of_the_held_out_predictions(hard):
    embeddings, labels = hard
    report = fit_head(embeddings, labels, extractor_digest="d").report
    support = gather(embeddings, labels, "single_label", 0)
    selected = select(support, FitOptions())
    fit = selected.fit
    calibration = calibrate(support, fit.rows, fit.held_out, fit.margin)
    chances = calibration.probabilities(fit.held_out)
    names = np.array(support.labels)
    truth, answer = names[support.targets[selected.fit.rows]], names[chances.argmax(axis=1)]
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


def test_learning_compares_half_of_the_examples_with_all_and_looks_ahead(hard):
    report = fit_head(*hard, extractor_digest="d").report
    half, whole = report.learning
    assert half["examples_per_class"] == whole["examples_per_class"] / 2 == 7.5
    assert half["accuracy"] <= whole["accuracy"] + 0.15
    assert whole["accuracy"] == report.accuracy
    assert report.forecast["examples_per_class"] == 30
    assert whole["accuracy"] <= report.forecast["accuracy"] <= 1


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 7, 3)])
def test_half_of_the_examples_are_fitted_as_a_head_of_their_own_would_be(sizes):
    embeddings, labels = clouds(3, 8, dim=24, spread=4.0)
    keep = [8 * target + index for target, size in enumerate(sizes) for index in range(size)]
    support = gather(embeddings[keep], [labels[row] for row in keep], "single_label", 0)
    selected = select(support, FitOptions(transform="l2", regularisation=0.5))
    half = ask_part(support, selected)
    first = np.flatnonzero((np.arange(len(keep)) - support.starts[support.targets]) % 2 == 0)
    names = [support.labels[target] for target in support.targets[first]]
    shown = gather(support.embeddings[support.origin[first]], names, "single_label", 0)
    # The half weighs as much as its classes' mean share of all.
    weight = len(keep) * np.mean([(size + 1) // 2 / size for size in sizes])
    alone = select(shown, FitOptions(transform="l2", regularisation=0.5 * len(first) / weight)).fit
    asked = half.rows[: len(support) - len(first)]
    expected = support.features("l2", asked) @ alone.weights.T + alone.bias
    columns = [shown.labels.index(label) for label in support.labels]
    found = half.scores[: len(asked)] - selected.fit.shift
    np.testing.assert_allclose(found, (expected - alone.shift)[:, columns], atol=1e-4)


@pytest.mark.parametrize(
    ("half", "full", "low", "high"),
    [(0.8, 0.9, 0.93, 0.96), (0.9, 0.9, 0.9, 0.92), (0.9, 0.85, 0.85, 0.86), (1.0, 1.0, 1.0, 1.0)],
)
def test_a_forecast_goes_on_as_it_went_and_never_down(half, full, low, high):
    assert low <= forecast_accuracy(half, full, 1, 200) <= high


def test_many_classes_list_the_cells_that_are_not_zero():
    classes = MAX_MATRIX + 5
    embeddings, labels = clouds(classes, 3, dim=64, spread=4.0)
    confusion = fit_head(embeddings, labels, extractor_digest="d").report.confusion
    assert confusion["matrix"] is None
    assert sum(count for _, _, count in confusion["cells"]) == classes * 3


def test_the_report_is_json_without_nan():
    for shots in (1, 2, 9):
        report = fit_head(*clouds(3, shots), extractor_digest="d").report.as_dict()
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        assert report["timings_ms"]["total"] > 0


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (95, 100, 0.8882, 0.9785)],
)
def test_the_interval_is_wilsons_published_one_for_independent_answers(correct, total, low, high):
    assert accuracy_interval(correct, total, 0) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_is_wider_with_few_examples_of_a_class():
    low, high = accuracy_interval(36, 40, 2)
    wider_low, wider_high = accuracy_interval(36, 40, 8)
    assert wider_low < low < 0.9 < high < wider_high
    assert accuracy_interval(40, 40, 8)[1] == 1.0
