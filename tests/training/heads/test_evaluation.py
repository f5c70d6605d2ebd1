"""The figures of an evaluation, against scikit-learn's and against counting by hand."""

import numpy as np
import pytest
from sklearn import metrics

from training.errors import SupportSetError
from training.heads import NEGATIVE_LABEL, Prediction, evaluate
from training.heads.figures import wilson_interval

CLASSES = ("a", "b", "c", "d")


def predicted(
    probabilities: np.ndarray, unknown: np.ndarray | None = None, task: str = "single_label"
) -> Prediction:
    count = len(probabilities)
    return Prediction(
        task=task,
        classes=CLASSES[: probabilities.shape[1]],
        probabilities=probabilities.astype(np.float32),
        typicality=np.ones(count, np.float32),
        negative=None,
        unknown=np.zeros(count, bool) if unknown is None else unknown,
        best=probabilities.argmax(axis=1),
    )


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 4) and true classes that follow them."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(4, 0.4), size=count).astype(np.float32)
    probabilities = np.maximum(probabilities, 1e-4)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, np.array(
        [random.choice(4, p=row / row.sum()) for row in probabilities.astype(float)]
    )


def test_single_label_figures_are_those_of_scikit_learn() -> None:
    probabilities, truth = drawn(300)
    found = evaluate(predicted(probabilities), [(CLASSES[k],) for k in truth])
    answers = probabilities.argmax(axis=1)
    assert found.accuracy == metrics.accuracy_score(truth, answers)
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, answers))
    assert found.confusion["matrix"] == metrics.confusion_matrix(truth, answers).tolist()
    assert found.log_loss == pytest.approx(metrics.log_loss(truth, probabilities), rel=1e-5)
    columns = metrics.precision_recall_fscore_support(truth, answers)
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        np.testing.assert_allclose([row[name] for row in found.per_class], column)
    assert [row["label"] for row in found.per_class] == list(CLASSES)


def test_the_calibration_error_of_true_probabilities_is_small_and_of_bold_ones_is_not() -> None:
    probabilities, truth = drawn(3000)
    labels = [(CLASSES[k],) for k in truth]
    bold = np.eye(4)[probabilities.argmax(axis=1)]
    honest, boastful = evaluate(predicted(probabilities), labels), evaluate(predicted(bold), labels)
    assert honest.calibration_error is not None
    assert honest.calibration_error < 0.04
    assert boastful.calibration_error == pytest.approx(1 - boastful.accuracy)
    assert np.isfinite(boastful.log_loss)


def test_multi_label_figures_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    probabilities = random.random((200, 4)).astype(np.float32)
    truth = random.random((200, 4)) < probabilities
    labels = [
        [name for name, has in zip(CLASSES, row, strict=True) if has] or [NEGATIVE_LABEL][index % 2 :]
        for index, row in enumerate(truth)
    ]
    found = evaluate(predicted(probabilities, task="multi_label"), labels)
    given = probabilities >= 0.5
    assert found.accuracy == metrics.accuracy_score(truth, given)
    columns = metrics.precision_recall_fscore_support(truth, given)
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        np.testing.assert_allclose([row[name] for row in found.per_class], column)
    matrices = metrics.multilabel_confusion_matrix(truth, given)
    order = [[tp, fp, fn, tn] for (tn, fp), (fn, tp) in matrices.tolist()]
    assert found.confusion["matrix"] == order
    empty = ~truth.any(axis=1)
    assert found.negatives == empty.sum()
    assert found.negatives_rejected == (~given[empty].any(axis=1)).mean()
    losses = [metrics.log_loss(truth[:, k], probabilities[:, k]) for k in range(4)]
    assert found.log_loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_negatives_count_apart() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3], [0.5, 0.5]])
    unknown = np.array([False, True, True, False, True])
    labels = ["a", "b", NEGATIVE_LABEL, NEGATIVE_LABEL, NEGATIVE_LABEL]
    found = evaluate(predicted(probabilities, unknown), [(label,) for label in labels])
    assert (found.inputs, found.negatives, found.accuracy) == (2, 3, 1.0)
    assert found.unknown_rate == 1 / 2
    assert found.negatives_rejected == 2 / 3
    assert found.confusion["matrix"] == [[1, 0], [0, 1]]


def test_what_was_not_counted_is_none() -> None:
    probabilities = np.array([[0.9, 0.1]])
    only_negative = evaluate(predicted(probabilities), [(NEGATIVE_LABEL,)])
    assert only_negative.accuracy is only_negative.accuracy_low is only_negative.log_loss is None
    assert only_negative.balanced_accuracy is only_negative.unknown_rate is None
    assert only_negative.negatives_rejected == 0.0
    one = evaluate(predicted(probabilities), [("a",)])
    assert one.negatives_rejected is None
    assert one.per_class[1] == {"label": "b", "support": 0, "precision": None, "recall": None, "f1": None}
    assert one.balanced_accuracy == 1.0


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_the_interval_is_wilsons(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct / total, total) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("labels", [("x",), (), ("a", "b"), ("a", NEGATIVE_LABEL)])
def test_labels_that_a_single_label_head_cannot_have_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(SupportSetError, match="labels: expected"):
        evaluate(predicted(np.array([[0.9, 0.1]])), [labels])
