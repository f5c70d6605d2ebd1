import numpy as np
import pytest

from tests.training.heads.clouds import clouds
from training.heads import fit_head
from training.heads.folds import deal
from training.heads.support import gather
from training.heads.transform import signed_power_l2
from training.heads.typicality import SHRINKAGE, SHRINKAGE_DIMENSIONS, _Sample, fit_typicality


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


def test_typicality_is_continuous_with_few_examples():
    head = fit_head(*clouds(2, 3, dim=64), extractor_digest="d")
    values = head.predict(_unseen(2, 100, dim=64)).typicality
    assert len(np.unique(values)) > 150


@pytest.mark.parametrize("shots", [6, 40])
def test_held_out_distances_equal_those_computed_from_the_features(shots):
    """The Gram matrix shortcut against means, covariance and distances of the features themselves."""
    support = gather(*clouds(3, shots, dim=30, spread=1.5), 0)
    features, targets = support.features.astype(np.float64), support.targets
    held = deal(support).assignment == 0
    sample = _Sample((features @ features.T).astype(np.float32), targets, 3, support.counts)
    found = sample.distances(np.flatnonzero(~held), np.flatnonzero(held))
    kept, own = features[~held], targets[~held]
    means = np.stack([kept[own == target].mean(axis=0) for target in range(3)])
    residuals = kept - means[own]
    values, vectors = np.linalg.eigh(residuals.T @ residuals)
    values, vectors = values[-32:], vectors[:, -32:]
    floor = SHRINKAGE * np.square(residuals).sum() / SHRINKAGE_DIMENSIONS
    strength = 1 - floor / ((1 - SHRINKAGE) * np.maximum(values, 0) + floor)
    offsets = features[held][:, None] - means
    distances = np.square(offsets).sum(axis=2) - (np.square(offsets @ vectors) * strength).sum(axis=2)
    members, rows = np.bincount(own), np.arange(held.sum())
    shrink = (1 + 1 / support.counts) / (1 + 1 / members)
    distances[rows, targets[held]] *= shrink[targets[held]]
    np.testing.assert_allclose(found, distances.min(axis=1), rtol=0.02, atol=1e-4)


def test_a_head_scores_a_feature_as_the_support_set_was_scored():
    embeddings, labels = clouds(3, 10, dim=40)
    support = gather(embeddings, labels, 0)
    typicality = fit_typicality(support, deal(support))
    head = fit_head(embeddings, labels, extractor_digest="d")
    inputs = _unseen(3, 5, dim=40)
    features = signed_power_l2(inputs).astype(np.float64)
    offsets = features[:, None] - typicality.means
    distances = np.square(offsets).sum(axis=2) - np.square(offsets @ typicality.directions.T).sum(axis=2)
    expected = np.interp(np.log(distances.min(axis=1)), typicality.knots, typicality.values)
    np.testing.assert_allclose(head.predict(inputs).typicality, expected, atol=1e-4)
