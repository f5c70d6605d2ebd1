import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from tests.training.heads.clouds import clouds
from training.heads.gathering import gather
from training.heads.moments import moments_of
from training.heads.ridge import (
    dual_scores,
    fit_dual,
    fit_primal,
    is_dual,
    scores_from,
    solve_primal,
    span_of,
    unmasked,
)


def _dual(support, penalty):
    span = span_of(support, "l2")
    return fit_dual(span, support, dual_scores(span.gram.astype(np.float64), support, penalty))


def _primal(support, penalty):
    return fit_primal(support, "l2", penalty, moments_of(support, "l2", np.arange(len(support))))


def _balanced(support, rows):
    """Example weights that give each class the same total among `rows`: their number over that of classes."""
    totals = support.multiplicity[rows] @ support.indicator[rows]
    each = support.multiplicity[rows].sum() / support.columns
    return support.multiplicity[rows] * each / totals[support.targets[rows]]


def _sklearn(support, rows, weights, penalty):
    model = SklearnRidge(alpha=penalty)
    model.fit(support.features("l2", rows).astype(np.float64), support.indicator[rows].astype(float), weights)
    return model


@pytest.mark.parametrize("fit", [_dual, _primal])
@pytest.mark.parametrize("penalty", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_the_fit_is_that_of_scikit_learn(fit, penalty, task):
    embeddings, labels = clouds(3, 12, dim=20, spread=3.0)
    if task == "multi_label":
        labels = [{label, "even"} if index % 2 == 0 else {label} for index, label in enumerate(labels)]
    support = gather(embeddings[4:], labels[4:], task, 0)
    found, model = fit(support, penalty), _sklearn(support, slice(None), support.weights, penalty)
    np.testing.assert_allclose(found.weights, model.coef_, atol=2e-4)
    np.testing.assert_allclose(found.bias, model.intercept_, atol=2e-4)
    scores = model.predict(support.features("l2"))
    np.testing.assert_allclose(found.fitted, scores[found.rows], atol=2e-4)


@pytest.mark.parametrize("sizes", [(6, 6, 6), (2, 9, 5)])
def test_a_held_out_score_is_that_of_a_fit_without_one_of_each_class(sizes):
    """By scikit-learn, really without them, the mean over the turns that an example takes."""
    embeddings, labels = clouds(3, 9, dim=20, spread=3.0)
    keep = [9 * target + index for target, size in enumerate(sizes) for index in range(size)]
    support = gather(embeddings[keep], [labels[row] for row in keep], "single_label", 0)
    found, expected = _dual(support, 0.3), np.zeros((len(keep), 3))
    for turn in support.turns():
        rest = np.setdiff1d(np.arange(len(support)), turn)
        model = _sklearn(support, rest, _balanced(support, rest), 0.3)
        expected[turn] += model.predict(support.features("l2", turn))
    expected /= np.bincount(support.turns().ravel())[:, None]
    np.testing.assert_allclose(found.held_out, expected, atol=1e-5)


@pytest.mark.parametrize("fit", [_dual, _primal])
def test_held_out_scores_of_a_multi_label_set(fit):
    embeddings, labels = clouds(3, 9, dim=12, spread=3.0)
    sets = [{label, "even"} if index % 2 == 0 else {label} for index, label in enumerate(labels)]
    support = gather(embeddings, sets, "multi_label", 0)
    found = fit(support, 0.3)
    for row in range(len(support)):
        rest = np.delete(np.arange(len(support)), row)
        model = _sklearn(support, rest, support.weights[rest], 0.3)
        expected = model.predict(support.features("l2", np.array([row])))[0]
        np.testing.assert_allclose(found.held_out[row], expected, atol=1e-3)


def test_many_examples_are_held_out_almost_like_few():
    embeddings, labels = clouds(3, 40, dim=10, spread=3.0)
    support = gather(embeddings, labels, "single_label", 0)
    assert not is_dual(support)
    np.testing.assert_allclose(_primal(support, 0.3).held_out, _dual(support, 0.3).held_out, atol=0.08)


def test_noise_is_not_called_the_other_class():
    """An example of pure noise that is left out alone is almost always called another class."""
    rng = np.random.default_rng(0)
    right = []
    for _ in range(40):
        support = gather(rng.standard_normal((8, 200)).astype(np.float32), ["a", "b"] * 4, "single_label", 0)
        right.append((_dual(support, 0.3).held_out.argmax(axis=1) == support.targets).mean())
    assert 0.4 < np.mean(right) < 0.6


def test_copies_weigh_more_and_are_left_out_together():
    embeddings, labels = clouds(2, 6, dim=30, spread=3.0)
    twice = gather(np.concatenate((embeddings, embeddings[:3])), [*labels, *labels[:3]], "single_label", 0)
    assert len(twice) == 12
    assert sorted(twice.multiplicity.tolist()) == [1] * 9 + [2] * 3
    model = _sklearn(twice, slice(None), twice.weights, 0.3)
    np.testing.assert_allclose(_dual(twice, 0.3).weights, model.coef_, atol=1e-4)


def test_more_precision_is_taken_where_single_is_too_little():
    embeddings, labels = clouds(2, 40, dim=200, spread=3.0)
    support = gather(np.concatenate((embeddings, embeddings * 1.0001)), labels * 2, "single_label", 0)
    span = span_of(support, "l2")
    scores = dual_scores(span.gram, support, 1e-6)
    assert np.isfinite(scores.held_out).all()


def test_classes_between_others_are_unmasked():
    """Five classes on a line: no line fits the indicators of the middle ones, so they are never chosen."""
    rng = np.random.default_rng(0)
    place = np.repeat(np.arange(5), 40)
    points = np.column_stack((0.2 * (place - 2), np.ones(200), 0.02 * rng.standard_normal(200)))
    support = gather(points.astype(np.float32), [str(number) for number in place], "single_label", 0)
    plain = _primal(support, 0.01)
    right, better = (
        (scores.argmax(axis=1) == support.targets[plain.rows]).mean()
        for scores in (plain.held_out, unmasked(plain, support).held_out)
    )
    assert better > right + 0.05
    shifted = unmasked(plain, support)
    np.testing.assert_allclose(
        shifted.held_out - plain.held_out, np.tile(shifted.shift, (len(plain.rows), 1)), atol=1e-6
    )
    np.testing.assert_allclose(shifted.shift.sum(), 0, atol=1e-9)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_moments_of_two_parts_are_those_of_all(task):
    embeddings, labels = clouds(3, 12, dim=20, spread=3.0)
    given = [{label} for label in labels] if task == "multi_label" else labels
    copies = np.concatenate((embeddings, embeddings[:5]))
    support = gather(copies, [*given, *given[:5]], task, 0)
    rows = np.arange(len(support))
    one, other = (moments_of(support, "l2", some) for some in (rows[::3], np.setdiff1d(rows, rows[::3])))
    found, expected = one + other, moments_of(support, "l2", rows)
    features, weights = support.features("l2").astype(np.float64), support.weights
    np.testing.assert_allclose(found.by_column, (support.indicator.T * weights) @ features, atol=1e-5)
    np.testing.assert_allclose(np.triu(found.second), np.triu((features.T * weights) @ features), atol=1e-5)
    for name in ("weight", "first", "second", "by_column", "column_weights"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


@pytest.mark.parametrize("asked", [2, 30])
def test_few_are_asked_about_without_weights(asked):
    embeddings, labels = clouds(6, 12, dim=20, spread=3.0)
    support = gather(embeddings, labels, "single_label", 0)
    moments = moments_of(support, "l2", np.arange(len(support)))
    fit, features = solve_primal(moments, 0.3), support.features("l2", np.arange(asked))
    expected = features @ fit.weights.T + fit.bias
    np.testing.assert_allclose(scores_from(moments, 0.3, features), expected, atol=1e-5)


def test_every_class_is_unmasked_by_all_of_its_examples(monkeypatch):
    """Also where only some of them are held out in turn."""
    embeddings, labels = clouds(4, 60, dim=20, spread=3.0)
    support = gather(embeddings, labels, "single_label", 0)
    everything = unmasked(_primal(support, 0.3), support)
    monkeypatch.setattr("training.heads.ridge.MAX_HELD_OUT", 12)
    few = unmasked(_primal(support, 0.3), support)
    assert len(few.rows) == 12
    np.testing.assert_allclose(few.shift, everything.shift, atol=1e-6)
    own = np.array([everything.fitted[support.targets == k, k].mean() for k in range(4)])
    np.testing.assert_allclose(own - everything.shift, everything.own, atol=1e-5)


def test_scores_of_a_very_large_penalty_still_differ():
    embeddings, labels = clouds(3, 40, dim=10, spread=1.0)
    support = gather(embeddings, labels, "single_label", 0)
    fitted = _primal(support, 1e6).fitted
    assert np.ptp(fitted) < 1e-3
    assert (fitted.argmax(axis=1) == support.targets).mean() > 0.9
