"""What must not matter: the order of the examples, the names of the labels, the company of an input."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.heads.clouds import clouds
from training.heads import FitOptions, fit_head

problems = st.fixed_dictionaries(
    {
        "classes": st.integers(2, 5),
        "shots": st.integers(1, 12),
        "dim": st.sampled_from([1, 3, 33, 128]),
        "spread": st.sampled_from([0.0, 0.5, 4.0]),
        "seed": st.integers(0, 1000),
    }
)


def _fit(embeddings, labels):
    return fit_head(embeddings, labels, extractor_digest="digest")


@settings(max_examples=40, deadline=None)
@given(problems, st.randoms(use_true_random=False))
def test_the_order_of_examples_does_not_matter(problem, random):
    embeddings, labels = clouds(**problem)
    order = list(range(len(labels)))
    random.shuffle(order)
    one, other = (
        _fit(embeddings, labels),
        _fit(embeddings[order], [labels[row] for row in order]),
    )
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(
        one.predict(embeddings).probabilities, other.predict(embeddings).probabilities
    )
    np.testing.assert_array_equal(one.predict(embeddings).typicality, other.predict(embeddings).typicality)
    assert {**one.report.as_dict(), "timings_ms": 0} == {**other.report.as_dict(), "timings_ms": 0}


@settings(max_examples=40, deadline=None)
@given(problems, st.randoms(use_true_random=False))
def test_renaming_the_labels_renames_the_classes(problem, random):
    embeddings, labels = clouds(**problem)
    names = sorted(set(labels))
    renamed = dict(zip(names, random.sample(names, len(names)), strict=True))
    one, other = (
        _fit(embeddings, labels),
        _fit(embeddings, [renamed[label] for label in labels]),
    )
    columns = [other.classes.index(renamed[name]) for name in one.classes]
    first, second = one.predict(embeddings), other.predict(embeddings)
    contents = [sorted(map(bytes, embeddings[np.array(labels) == name])) for name in names]
    if all(contents.count(content) == 1 for content in contents):
        np.testing.assert_array_equal(first.probabilities, second.probabilities[:, columns])
        np.testing.assert_array_equal(first.typicality, second.typicality)
    else:  # classes of equal content are told apart by name only, which decides how sums are rounded
        np.testing.assert_allclose(first.probabilities, second.probabilities[:, columns], atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(problems, st.integers(1, 70))
def test_an_input_has_the_same_bits_alone_and_in_a_batch(problem, size):
    embeddings, labels = clouds(**problem)
    head = _fit(embeddings, labels)
    batch = np.random.default_rng(problem["seed"]).standard_normal((size, problem["dim"])).astype(np.float32)
    together = head.predict(batch)
    for row in {0, size // 2, size - 1}:
        alone = head.predict(batch[row : row + 1])
        np.testing.assert_array_equal(alone.probabilities[0], together.probabilities[row])
        np.testing.assert_array_equal(alone.typicality[0], together.typicality[row])


@settings(max_examples=40, deadline=None)
@given(problems)
def test_probabilities_and_typicality_are_what_they_say(problem):
    embeddings, labels = clouds(**problem)
    prediction = _fit(embeddings, labels).predict(np.vstack([embeddings, -embeddings, 0 * embeddings]))
    assert prediction.probabilities.dtype == prediction.typicality.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-6)
    assert (prediction.probabilities >= 0).all()
    assert ((prediction.typicality >= 0) & (prediction.typicality <= 1)).all()
    assert (prediction.probabilities.argmax(axis=1) == prediction.best).all()


def test_the_same_seed_gives_the_same_head_and_another_one_the_same_answers():
    embeddings, labels = clouds(3, 12, spread=6.0)
    one, same, other = (
        fit_head(embeddings, labels, extractor_digest="d", options=FitOptions(seed=seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.weights, same.weights)
    assert one.report.log_loss != other.report.log_loss
    np.testing.assert_allclose(
        one.predict(embeddings).probabilities, other.predict(embeddings).probabilities, atol=0.1
    )
