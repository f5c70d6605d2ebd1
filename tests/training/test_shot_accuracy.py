"""Accuracies at several numbers of examples are honest: nothing that was learned from is asked about."""

import numpy as np
import pytest

from training.errors import SupportSetError
from training.shot_accuracy import feasible_shots, measure_shots

LABELS = ["a"] * 120 + ["b"] * 40
DIGEST = "0" * 64


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((len(LABELS), 200)).astype(np.float32)


def test_pure_noise_is_guessed_however_uneven_the_classes_are() -> None:
    """A head knows examples of noise by heart: one of them among the test images would show."""
    found = measure_shots(noise(), LABELS, extractor_digest=DIGEST, shots=(5, 20), seeds=6)
    assert [accuracy.shots for accuracy in found] == [5, 20]
    for accuracy in found:
        assert accuracy.mean == pytest.approx(0.5, abs=0.08)
        assert accuracy.low < 0.5 < accuracy.high
        assert accuracy.seeds == 6


def test_classes_far_apart_are_told_and_still_not_certain() -> None:
    apart = noise() + 5 * np.float32([[label == "a"] for label in LABELS])
    (accuracy,) = measure_shots(apart, LABELS, extractor_digest=DIGEST, shots=(5,), seeds=2)
    assert accuracy.mean == accuracy.high == 1
    assert 0.9 < accuracy.low < 1


def test_the_interval_is_wider_with_fewer_test_images() -> None:
    """37 or 4 of the smaller class are left to test with."""
    apart = noise() + 5 * np.float32([[label == "a"] for label in LABELS])
    few = [*range(20), *range(120, 129)]
    options = {"extractor_digest": DIGEST, "shots": (3,), "seeds": 2}
    (wide,) = measure_shots(apart[few], [LABELS[row] for row in few], **options)
    (narrow,) = measure_shots(apart, LABELS, **options)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_the_same_splits_for_every_extractor() -> None:
    """Embeddings that differ by a rotation give the same answers on the same splits."""
    mixed = noise() + 0.4 * np.float32([[label == "a"] for label in LABELS])
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((200, 200)))
    options = {"extractor_digest": DIGEST, "shots": (10,), "seeds": 3}
    (first,) = measure_shots(mixed, LABELS, **options)
    (again,) = measure_shots(mixed, LABELS, **options)
    assert first == again
    assert 0.55 < first.mean < 1
    (turned,) = measure_shots((mixed @ turn).astype(np.float32), LABELS, **options)
    assert turned.mean == pytest.approx(first.mean, abs=0.05)


def test_counts_that_the_smallest_class_cannot_give_are_left_out() -> None:
    counts = {"a": 100, "b": 23}
    assert feasible_shots(counts, (50, 20, 1, 1)) == (1, 20)
    assert feasible_shots(counts, (21, 20)) == (20,)
    with pytest.raises(SupportSetError, match=r"at least 53 images of each class .* found 23 of b"):
        feasible_shots(counts, (80, 50))


def test_embeddings_that_are_not_finite_are_an_error() -> None:
    broken = noise()
    broken[:] = np.nan
    with pytest.raises(SupportSetError):
        measure_shots(broken, LABELS, extractor_digest=DIGEST, shots=(5,), seeds=2)
