"""Two extractors on the same examples: the published interval, and the report's own answers."""

import numpy as np
import pytest

from tests.training.heads.clouds import clouds
from training.heads import FitOptions, fit_head
from training.heads.pairing import Rows, pair_extractors, paired_difference


def answers(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    before = np.repeat([True, False, True, False], [both, gained, lost, neither])
    after = np.repeat([True, True, False, False], [both, gained, lost, neither])
    return before, after


def test_the_interval_is_the_published_one() -> None:
    # Newcombe 1998, method 10, of the cells 36, 12, 2, 0.
    found = paired_difference(*answers(36, 12, 2, 0))
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    found = paired_difference(*answers(0, 30, 0, 0))
    assert (found.before, found.after, found.difference) == (0, 1, 1)
    assert found.low == pytest.approx(1 - np.sqrt(2) * 0.1135, abs=5e-4)


def test_exchanging_the_two_turns_the_interval_round() -> None:
    before, after = answers(10, 7, 3, 5)
    there, back = paired_difference(before, after), paired_difference(after, before)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    chances, covered = np.array([0.5, 0.2, 0.1, 0.2]), 0
    for _ in range(1000):
        found = paired_difference(*answers(*rng.multinomial(60, chances)))
        covered += found.low <= 0.1 <= found.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_both_are_judged_as_their_reports_judge_them(task: str) -> None:
    noisy, labels = clouds(4, 12, spread=12.0)
    clear, _ = clouds(4, 12, dim=20, spread=1.0, seed=1)
    names: list = ["__none__" if label == "class 03" else label for label in labels]
    if task == "multi_label":
        names = [() if label == "__none__" else (label,) for label in names]
    options = FitOptions(task=task)
    paired = pair_extractors(Rows(noisy, options), Rows(clear, options), names)
    reports = [fit_head(rows, names, extractor_digest="x", options=options).report for rows in (noisy, clear)]
    assert paired is not None
    assert paired.held_out == reports[0].held_out
    assert [paired.before, paired.after] == pytest.approx([report.accuracy for report in reports])
    assert paired.is_better
    same = pair_extractors(Rows(clear, options), Rows(clear, options), names)
    assert same is not None
    assert (same.difference, same.is_better) == (0, False)


def test_what_cannot_be_held_out_is_not_compared() -> None:
    rows, labels = clouds(3, 1)
    assert pair_extractors(Rows(rows, FitOptions()), Rows(rows, FitOptions()), labels) is None
