"""Heads whose inputs are of any number of classes: an independent sigmoid each."""

import numpy as np
import pytest

from training.errors import SupportSetError, TooFewClassesError
from training.heads import FitOptions, fit_head

MULTI = FitOptions(task="multi_label")
LABELS = np.array(["indoor", "night", "people"])


def _scenes(count, seed):
    """Embeddings with a direction for each label, and the labels that each has."""
    truth = np.random.default_rng(seed).random((count, 3)) < 0.4
    directions = np.random.default_rng(7).standard_normal((3, 64))
    noise = np.random.default_rng(seed + 1).standard_normal((count, 64))
    base = np.random.default_rng(8).standard_normal(64) * 2
    return (base + 2 * truth @ directions + noise).astype(np.float32), truth


def _sets(truth):
    return [set(LABELS[row]) for row in truth]


def test_learns_each_label_by_itself():
    embeddings, truth = _scenes(60, 0)
    head = fit_head(embeddings, _sets(truth), extractor_digest="d", options=MULTI)
    unseen, expected = _scenes(400, 10)
    prediction = head.predict(unseen)
    assert head.classes == tuple(LABELS)
    assert ((prediction.probabilities >= 0.5) == expected).mean() > 0.95
    assert prediction.probabilities.sum(axis=1).max() > 1.5
    assert prediction.unknown.mean() < 0.15
    report = head.report
    assert report.task == "multi_label"
    exact = ((prediction.probabilities >= 0.5) == expected).all(axis=1).mean()
    assert report.accuracy_low <= exact <= report.accuracy_high
    for row, counts in zip(report.per_class, report.confusion["matrix"], strict=True):
        assert row["recall"] == pytest.approx(counts[0] / (counts[0] + counts[2]))
        assert sum(counts) == report.held_out == 60


def test_probabilities_are_calibrated():
    embeddings, truth = _scenes(40, 3)
    head = fit_head(embeddings, _sets(truth), extractor_digest="d", options=MULTI)
    unseen, expected = _scenes(2000, 11)
    assert abs(head.predict(unseen).probabilities.mean() - expected.mean()) < 0.05


def test_an_input_without_labels_is_a_negative_for_all():
    embeddings, truth = _scenes(60, 5)
    assert (truth.sum(axis=1) == 0).any()
    head = fit_head(embeddings, [[*names] for names in _sets(truth)], extractor_digest="d", options=MULTI)
    unseen, expected = _scenes(300, 12)
    nothing = head.predict(unseen[~expected.any(axis=1)])
    assert (nothing.probabilities < 0.5).mean() > 0.9
    assert not head.negatives


def test_two_classes_may_use_sigmoids():
    embeddings, truth = _scenes(40, 6)
    labels = [["indoor"] if row[0] else ["outdoor"] for row in truth]
    head = fit_head(embeddings, labels, extractor_digest="d", options=MULTI)
    unseen, expected = _scenes(300, 13)
    probabilities = head.predict(unseen).probabilities
    assert ((probabilities[:, 0] > 0.5) == expected[:, 0]).mean() > 0.95
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=0.2)


@pytest.mark.parametrize("labels", [["a", "b"], [["a"], [3]], [["a"], None], [["a"], [""]], "ab"])
def test_labels_that_are_no_collections(labels):
    with pytest.raises(SupportSetError, match="labels"):
        fit_head(np.eye(2, 4, dtype=np.float32), labels, extractor_digest="d", options=MULTI)


def test_one_label_is_not_enough():
    with pytest.raises(TooFewClassesError, match="'a'"):
        fit_head(np.eye(3, 4, dtype=np.float32), [["a"], [], ["a"]], extractor_digest="d", options=MULTI)
