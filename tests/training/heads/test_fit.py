import numpy as np
import pytest

from tests.training.heads.clouds import clouds
from training.errors import NoExamplesError, SupportSetError, TooFewClassesError
from training.heads import TRANSFORMS, FitOptions, fit_head


def fit(embeddings, labels, **options):
    return fit_head(embeddings, labels, extractor_digest="digest", options=FitOptions(**options))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_learns_what_it_is_shown(transform):
    embeddings, labels = clouds(5, 10)
    unseen, truth = clouds(5, 10)[0] + 0.1, labels
    head = fit(embeddings, labels, transform=transform)
    assert head.classes == tuple(sorted(set(labels)))
    assert head.predict(unseen).labels == truth
    assert head.transform == head.report.transform == transform
    assert head.report.accuracy > 0.9


def test_says_where_it_comes_from():
    embeddings, labels = clouds(2, 4)
    head = fit_head(embeddings, labels, extractor_digest="abc", parent_version=7)
    assert (head.extractor_digest, head.parent_version, head.dim) == ("abc", 7, 48)
    assert head.transform in TRANSFORMS
    assert head.library_version


def test_inputs_are_not_changed():
    embeddings, labels = clouds(3, 5)
    before, names = embeddings.copy(), list(labels)
    head = fit(embeddings, labels)
    head.predict(embeddings)
    np.testing.assert_array_equal(embeddings, before)
    assert labels == names


def test_no_examples():
    with pytest.raises(NoExamplesError, match="got none"):
        fit(np.zeros((0, 8), np.float32), [])


def test_one_class():
    with pytest.raises(TooFewClassesError, match="'cat'"):
        fit(np.ones((3, 8), np.float32), ["cat"] * 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_name_the_row(bad):
    embeddings, labels = clouds(2, 3)
    wide = embeddings.astype(np.float64)
    wide[4, 7] = bad
    with pytest.raises(SupportSetError, match="row 4"):
        fit(wide, labels)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.ones(4, np.float32), r"shape \(n, d\).*\(4,\)"),
        (np.ones((4, 0), np.float32), r"\(4, 0\)"),
        (np.ones((2, 2, 2), np.float32), r"\(2, 2, 2\)"),
        (np.ones((3, 5), np.float32), "3 embeddings and 4 labels"),
        (np.array([["a"] * 2] * 4), "dtype"),
        (np.ones((4, 2), np.complex64), "complex64"),
        ([[1.0, 2.0], [1.0], [2.0], [3.0]], "different lengths"),
    ],
)
def test_wrong_embeddings_say_expected_and_observed(embeddings, message):
    with pytest.raises(SupportSetError, match=message):
        fit(embeddings, ["a", "a", "b", "b"])


@pytest.mark.parametrize("labels", ["ab", ["a", ""], ["a", 3], ["a", None]])
def test_wrong_labels(labels):
    with pytest.raises(SupportSetError, match="labels"):
        fit(np.ones((2, 4), np.float32), labels)


@pytest.mark.parametrize(
    "option",
    [
        {"task": "ranking"},
        {"transform": "log"},
        {"regularisation": 0},
        {"regularisation": float("nan")},
        {"regularisation": "1"},
        {"regularisation": 10**400},
        {"unknown_rate": 1.0},
        {"unknown_rate": -0.1},
        {"threshold": 1.01},
        {"threshold": True},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
    ],
)
def test_options_out_of_range_are_refused_by_name(option):
    with pytest.raises(SupportSetError, match=next(iter(option))):
        FitOptions(**option)


def test_options_are_used():
    embeddings, labels = clouds(2, 12)
    head = fit(embeddings, labels, regularisation=2.5, threshold=0.4)
    assert head.report.regularisation == 2.5
    assert head.unknown_threshold == head.report.unknown_threshold == 0.4
    assert fit(embeddings, labels, unknown_rate=0.2).unknown_threshold == 0.2
    assert FitOptions(seed=3).as_dict() == {
        "task": "single_label",
        "transform": None,
        "regularisation": None,
        "unknown_rate": 0.05,
        "threshold": None,
        "seed": 3,
        "layers": ["embedding"],
    }


def test_one_example_of_each_class():
    embeddings, labels = clouds(4, 1)
    head = fit(embeddings, labels)
    prediction = head.predict(embeddings)
    assert prediction.labels == labels
    assert (prediction.probabilities.max(axis=1) < 1).all()
    assert not prediction.unknown.any()
    report = head.report
    assert (report.accuracy, report.accuracy_low, report.balanced_accuracy) == (None, None, None)
    assert (report.calibration_error, report.log_loss, report.held_out) == (None, None, 0)
    assert (report.learning, report.forecast, report.tried) == ((), None, ())
    assert {warning["code"] for warning in report.warnings} == {"not_validated", "few_examples"}


def test_one_class_with_one_example_among_others():
    embeddings, labels = clouds(3, 8)
    head = fit(embeddings[:17], labels[:17])
    recalls = {row["label"]: row["recall"] for row in head.report.per_class}
    assert recalls["class 02"] is None
    assert recalls["class 00"] is not None
    assert head.report.held_out == 16
    assert head.predict(embeddings[16:17]).labels == ["class 02"]
    assert "class_not_validated" in {warning["code"] for warning in head.report.warnings}


@pytest.mark.parametrize("value", [0.0, 3.0, -1.0])
def test_constant_embeddings_give_even_chances(value):
    head = fit(np.full((8, 16), value, np.float32), ["a", "b"] * 4)
    prediction = head.predict(np.full((3, 16), value, np.float32))
    np.testing.assert_allclose(prediction.probabilities, 0.5, atol=1e-3)
    assert np.isfinite(prediction.typicality).all()


def test_a_zero_embedding_is_answered():
    embeddings, labels = clouds(3, 6)
    embeddings[2] = 0
    prediction = fit(embeddings, labels).predict(np.zeros((1, 48), np.float32))
    np.testing.assert_allclose(prediction.probabilities.sum(), 1, atol=1e-6)
    assert 0 <= prediction.typicality[0] <= 1


def test_copies_of_an_example_are_never_tested_against_each_other():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((20, 64)).astype(np.float32)
    labels = ["a", "b"] * 10
    once = fit(noise, labels).report
    copied = fit(np.repeat(noise, 3, axis=0), list(np.repeat(labels, 3))).report
    assert once.accuracy < 0.85
    assert abs(copied.accuracy - once.accuracy) <= 0.25
    assert "duplicates" in {warning["code"] for warning in copied.warnings}


def test_the_same_input_under_two_labels_is_pointed_out():
    embeddings, labels = clouds(2, 6)
    embeddings[0] = embeddings[6]
    codes = {warning["code"] for warning in fit(embeddings, labels).report.warnings}
    assert "conflicting_labels" in codes


def test_a_dominant_class_does_not_swallow_the_small_one():
    embeddings, labels = clouds(2, 60, spread=2.0)
    keep = list(range(60)) + list(range(60, 66))
    head = fit(embeddings[keep], [labels[index] for index in keep])
    unseen, truth = clouds(2, 300, spread=2.0)
    right = np.array(head.predict(unseen).labels) == truth
    assert right[300:].mean() > 0.8
    assert "class_dominates" in {warning["code"] for warning in head.report.warnings}


def test_more_examples_than_dimensions():
    embeddings, labels = clouds(3, 120, dim=10, spread=1.5)
    head = fit(embeddings, labels)
    unseen = clouds(3, 120, dim=10, spread=1.5)[0]
    assert (np.array(head.predict(unseen).labels) == labels).mean() > 0.9


def test_tiny_and_huge_values():
    embeddings, labels = clouds(3, 6)
    plain = fit(embeddings, labels).predict(embeddings)
    for scale in (1e-30, 1e30):
        scaled = (embeddings * np.float32(scale)).astype(np.float32)
        prediction = fit(scaled, labels).predict(scaled)
        np.testing.assert_allclose(prediction.probabilities, plain.probabilities, atol=0.02)
