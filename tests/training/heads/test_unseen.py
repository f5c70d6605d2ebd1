"""Examples that the extractor was trained on teach a head, but never judge it."""

import numpy as np
import pytest

from training.errors import SupportSetError
from training.heads import FitOptions, Head, fit_head

CLASSES, SEEN, UNSEEN, DIM = 3, 40, 60, 32


def overfitted(seed: int = 0, unseen: int = UNSEEN) -> tuple[np.ndarray, list[str], list[bool]]:
    """Embeddings that tell the classes of the seen examples for sure, and of the others hardly."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(CLASSES, DIM))
    rows, labels, is_unseen = [], [], []
    for target in range(CLASSES):
        for count, spread, flag in ((SEEN, 0.1, False), (unseen, 4.0, True)):
            rows.append(centers[target] + spread * random.normal(size=(count, DIM)))
            labels += [f"class {target}"] * count
            is_unseen += [flag] * count
    return np.concatenate(rows).astype(np.float32), labels, is_unseen


def fit(rows: np.ndarray, labels: list[str], unseen: list[bool] | None, **options: object) -> Head:
    chosen = FitOptions(**options)  # type: ignore[arg-type]
    return fit_head(rows, labels, extractor_digest="0" * 64, unseen=unseen, options=chosen)


@pytest.mark.parametrize("size", [UNSEEN, 1700])
def test_only_unseen_examples_are_held_out(size: int) -> None:
    rows, labels, unseen = overfitted(unseen=size)
    fresh, truth, flags = overfitted(seed=0, unseen=4000)
    flattered, honest = fit(rows, labels, None).report, fit(rows, labels, unseen).report
    assert honest.examples == len(labels)
    assert honest.held_out == min(sum(unseen), 4096) or size == 1700
    assert honest.held_out <= sum(unseen)
    head = fit(rows, labels, unseen)
    asked = np.flatnonzero(flags)[-3000:]
    actual = np.mean(np.array(head.predict(fresh[asked]).labels) == np.array(truth)[asked])
    assert honest.accuracy == pytest.approx(actual, abs=0.12)
    assert flattered.accuracy is not None
    assert honest.accuracy is not None
    if size == UNSEEN:
        assert flattered.accuracy > honest.accuracy + 0.15


def test_probabilities_are_not_more_sure_than_right() -> None:
    rows, labels, unseen = overfitted()
    flattered, honest = (fit(rows, labels, mask).report for mask in (None, unseen))
    assert honest.slope < flattered.slope


def test_all_unseen_is_as_if_nothing_was_said() -> None:
    rows, labels, _ = overfitted()
    plain, said = fit(rows, labels, None), fit(rows, labels, [True] * len(labels))
    np.testing.assert_array_equal(plain.weights, said.weights)
    assert plain.report.accuracy == said.report.accuracy


def test_none_unseen_is_trained_and_not_judged() -> None:
    rows, labels, _ = overfitted()
    head = fit(rows, labels, [False] * len(labels))
    assert head.report.accuracy is None
    assert np.isfinite(head.predict(rows).probabilities).all()


def test_several_labels() -> None:
    rows, labels, unseen = overfitted()
    sets = [(label,) for label in labels]
    head = fit_head(
        rows, sets, extractor_digest="0" * 64, unseen=unseen, options=FitOptions(task="multi_label")
    )
    assert head.report.held_out <= sum(unseen)


def test_a_copy_of_a_seen_example_is_seen() -> None:
    rows, labels, unseen = overfitted()
    copies = np.concatenate((rows, rows[:5]))
    head = fit(copies, labels + labels[:5], [*unseen, *[True] * 5])
    assert head.report.held_out == sum(unseen)


def test_a_mask_of_another_length_is_refused() -> None:
    rows, labels, unseen = overfitted()
    with pytest.raises(SupportSetError, match=f"expected {len(labels)} values, got {len(labels) - 1}"):
        fit(rows, labels, unseen[1:])
