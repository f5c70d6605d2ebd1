import numpy as np
import pytest

from tests.training.heads.clouds import clouds
from training.heads import FitOptions, fit_head
from training.heads.gathering import gather
from training.heads.selection import select
from training.heads.transform import transform_features
from training.heads.typicality import EXACT_LIMIT, _directions, fit_typicality


def _unseen(classes, count, **options):
    """More points of the same clouds: the centres come first from the seed, so draw points anew."""
    rng = np.random.default_rng(99)
    centers = 2 * np.random.default_rng(0).standard_normal((classes, options["dim"]))
    points = np.repeat(centers, count, axis=0) + rng.standard_normal((classes * count, options["dim"]))
    return np.maximum(points, 0).astype(np.float32)


@pytest.mark.parametrize("shots", [20, 60, 400])
def test_a_share_of_inputs_of_the_classes_is_rejected_as_promised(shots):
    head = fit_head(*clouds(3, shots, dim=64), extractor_digest="d")
    prediction = head.predict(_unseen(3, 400, dim=64))
    assert 0.01 <= prediction.unknown.mean() <= 0.10
    # Typicality is the share of inputs of the classes that are less typical, so it is nearly uniform.
    shares = [np.mean(prediction.typicality < level) for level in (0.25, 0.5, 0.75)]
    np.testing.assert_allclose(shares, (0.25, 0.5, 0.75), atol=0.15)


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_few_examples_reject_too_little_rather_than_too_much(shots):
    head = fit_head(*clouds(3, shots, dim=64), extractor_digest="d")
    assert head.predict(_unseen(3, 400, dim=64)).unknown.mean() <= 0.06


def test_inputs_unlike_every_class_are_unknown():
    head = fit_head(*clouds(3, 20, dim=64), extractor_digest="d")
    strangers = np.random.default_rng(5).exponential(1, (200, 64)).astype(np.float32)
    assert head.predict(strangers).unknown.mean() > 0.95
    assert head.predict(np.zeros((1, 64), np.float32)).unknown.all()


def test_inputs_of_the_negatives_are_unknown_and_those_of_the_classes_are_not():
    embeddings, labels = clouds(4, 15, dim=64)
    head = fit_head(embeddings, [*labels[:45], *["__none__"] * 15], extractor_digest="d")
    assert head.classes == ("class 00", "class 01", "class 02")
    prediction = head.predict(_unseen(4, 100, dim=64))
    assert prediction.unknown[300:].mean() > 0.95
    assert prediction.negative[300:].mean() > 0.8
    assert prediction.unknown[:300].mean() < 0.1
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-5)
    assert head.report.negatives_rejected > 0.9


def test_typicality_is_continuous_with_few_examples():
    head = fit_head(*clouds(2, 3, dim=64), extractor_digest="d")
    values = head.predict(_unseen(2, 100, dim=64)).typicality
    assert len(np.unique(values)) > 150


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_head_scores_a_feature_as_the_definition_says(task):
    """Through the class scores, as against projections on an orthonormal basis of the weights."""
    embeddings, labels = clouds(3, 10, dim=40)
    sets = [{label} for label in labels] if task == "multi_label" else labels
    options = FitOptions(task=task)
    support = gather(embeddings, sets, task, 0)
    selected = select(support, options)
    typicality = fit_typicality(support, selected)
    head = fit_head(embeddings, sets, extractor_digest="d", options=options)
    inputs = _unseen(3, 5, dim=40)
    features = transform_features(inputs, head.transform).astype(np.float64)
    weights = selected.fit.weights.astype(np.float64)
    frame = np.linalg.svd(weights, full_matrices=False)[2][: typicality.basis.shape[1]]
    offsets = features - typicality.mean
    outside = offsets - offsets @ frame.T @ frame
    distances = np.square(outside).sum(axis=1) - np.square(outside @ typicality.directions.T).sum(axis=1)
    if task == "single_label":
        axes = typicality.basis.T.astype(np.float64) @ weights
        distances += np.square((features @ axes.T)[:, None] - typicality.centers).sum(axis=2).min(axis=1)
    knots = np.linspace(*typicality.log_range, len(typicality.values))
    expected = np.interp(np.log(distances), knots, typicality.values)
    np.testing.assert_allclose(head.predict(inputs).typicality, expected, atol=1e-3)


@pytest.mark.parametrize("count", [24, EXACT_LIMIT + 20])
def test_directions_are_those_of_the_residuals_of_each_class(count):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((count, 30)) * np.linspace(4, 0.3, 30)
    groups = np.sort(rng.integers(0, 3, count))
    loadings, lengths = _directions((points @ points.T).astype(np.float32), groups, 5)
    residuals = points - np.stack([points[groups == group].mean(axis=0) for group in range(3)])[groups]
    expected = np.linalg.svd(residuals)[2][:5]
    found = loadings @ points
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.svd(found @ expected.T)[1][:4], 1, atol=0.02)
    assert lengths.shape == (count,)
    # Held-out reach is shorter than the reach along directions that know the example.
    assert lengths.sum() < np.square(points @ found.T).sum()
