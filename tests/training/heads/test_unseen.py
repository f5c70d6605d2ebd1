"""Examples that the extractor was trained on teach a head, but never judge it."""

import numpy as np
import pytest

from training.errors import SupportSetError
from training.heads import FitOptions, Head, check_examples, fit_head
from training.heads.pairing import Rows, pair_extractors
from training.heads.report import Report

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


def warned(report: Report) -> str:
    found = [one["message"] for one in report.warnings if one["code"] == "tuned_on_these_examples"]
    return "".join(found)


@pytest.mark.parametrize("size", [UNSEEN, 1700])
def test_only_unseen_examples_are_held_out(size: int) -> None:
    rows, labels, unseen = overfitted(unseen=size)
    fresh, truth, flags = overfitted(seed=0, unseen=4000)
    flattered, honest = fit(rows, labels, None).report, fit(rows, labels, unseen).report
    assert honest.examples == len(labels)
    most = min(sum(unseen), 4096)
    assert most <= honest.held_out <= min(sum(unseen), most + 2 * CLASSES)  # two of every class come beside
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
    report = head.report
    assert {report.accuracy, report.accuracy_low, report.balanced_accuracy, report.calibration_error} == {
        None
    }
    assert (report.held_out, report.learning, report.forecast) == (0, (), None)
    assert "trained on all of these examples" in warned(report)
    assert np.isfinite(head.predict(rows).probabilities).all()


def test_how_few_judge_is_told() -> None:
    rows, labels, unseen = overfitted(unseen=5)
    assert "trained on 120 of 135 examples, so accuracy and calibration rest on 15 others" in warned(
        fit(rows, labels, unseen).report
    )
    rows, labels, unseen = overfitted(unseen=10)
    assert warned(fit(rows, labels, unseen).report) == ""


def test_layers_are_not_chosen_by_what_was_seen() -> None:
    rows, labels, unseen = overfitted()
    noise = np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    # The embedding knows nothing of what is unseen, the tap all: only the unseen examples tell.
    known = np.array(unseen)[:, None]
    embedding = np.where(known, noise, rows)
    codes = np.array([int(label[-1]) for label in labels])
    tap = np.where(known, 9 * np.eye(CLASSES, DIM)[codes] + noise, noise).astype(np.float32)
    wide, dims = np.hstack((embedding, tap)), {"embedding": DIM, "stage2": DIM}
    chosen = [
        fit_head(
            wide,
            labels,
            extractor_digest="0" * 64,
            unseen=mask,
            layer_dims=dims,
            options=FitOptions(layers="auto"),
        ).report.layers
        for mask in (unseen, [False] * len(labels))
    ]
    assert chosen == [("embedding", "stage2"), ("embedding",)]


def test_several_labels() -> None:
    rows, labels, unseen = overfitted()
    sets = [(label,) for label in labels]
    head = fit_head(
        rows, sets, extractor_digest="0" * 64, unseen=unseen, options=FitOptions(task="multi_label")
    )
    assert head.report.held_out <= sum(unseen)
    blind = fit_head(
        rows,
        sets,
        extractor_digest="0" * 64,
        unseen=[False] * len(sets),
        options=FitOptions(task="multi_label"),
    )
    assert blind.report.accuracy is None
    assert np.isfinite(blind.predict(rows).probabilities).all()


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_two_extractors_are_compared_on_what_neither_saw(task: str) -> None:
    rows, labels, unseen = overfitted()
    plain = np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    names: list = labels if task == "single_label" else [(label,) for label in labels]
    options = FitOptions(task=task)
    before, after = Rows(plain, options), Rows(rows, options)
    flattered, honest = (pair_extractors(before, after, names, unseen=mask) for mask in (None, unseen))
    assert flattered is not None
    assert honest is not None
    assert (flattered.held_out, honest.held_out) == (len(labels), sum(unseen))
    assert honest.after < flattered.after - 0.1
    assert pair_extractors(before, after, names, unseen=[False] * len(labels)) is None


def test_labels_that_the_extractor_learned_are_not_doubted() -> None:
    rows, labels, unseen = overfitted()
    rows[unseen] = rows[unseen] / 8  # well apart
    wrong = [unseen.index(False), unseen.index(True)]
    for row in wrong:
        labels[row] = "class 2"
    plain, aware = check_examples(rows, labels), check_examples(rows, labels, unseen=unseen)
    assert set(wrong) <= {error.index for error in plain.label_errors if error.is_probable}
    judged = {row for row, is_unseen in enumerate(unseen) if is_unseen}
    assert {error.index for error in aware.label_errors} == judged
    assert wrong[1] in {error.index for error in aware.label_errors if error.is_probable}
    assert {outlier.index for outlier in aware.outliers} == judged
    nothing = check_examples(rows, labels, unseen=[False] * len(labels))
    assert (nothing.label_errors, nothing.outliers) == ((), ())
    assert nothing.duplicates == plain.duplicates


def test_a_copy_of_a_seen_example_is_seen() -> None:
    rows, labels, unseen = overfitted()
    copies = np.concatenate((rows, rows[:5]))
    head = fit(copies, labels + labels[:5], [*unseen, *[True] * 5])
    assert head.report.held_out == sum(unseen)


def test_a_mask_of_another_length_is_refused() -> None:
    rows, labels, unseen = overfitted()
    with pytest.raises(SupportSetError, match=f"expected {len(labels)} values, got {len(labels) - 1}"):
        fit(rows, labels, unseen[1:])
