"""The split: each class in the wanted shares, equal inputs on one side, and what cannot be parted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.finetune.small import SPEC, small_samples
from tests.training.images import png, scene
from training.errors import FinetuneError
from training.finetune.samples import FEWEST_TO_WATCH, Samples, Split
from training.tuned import TunedOn


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(6, 400), share=st.floats(0.1, 0.5), seed=st.integers(0, 99), copies=st.integers(1, 4)
)
def test_the_parts_are_all_inputs_and_no_input_is_in_two(
    count: int, share: float, seed: int, copies: int
) -> None:
    samples = small_samples(6)
    targets = np.repeat(np.arange(count) % 3, copies)
    keys = tuple(f"{index // copies:064x}" for index in range(count * copies))
    samples = replace(
        samples, targets=targets, labels=tuple(samples.classes[target] for target in targets), keys=keys
    )
    split = Split.of(samples, share, seed)
    rows = np.concatenate((split.train, split.watched, split.held_out))
    assert sorted(rows.tolist()) == list(range(len(samples)))
    sides = [{keys[row] for row in part} for part in (split.train, split.watched, split.held_out)]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    for part in (split.train, split.held_out):
        assert set(targets[part]) == {0, 1, 2}
    assert abs(len(split.held_out) / len(samples) - share) <= 3 / count + 1e-9
    assert bool(len(split.watched)) == (len(samples) - len(split.held_out) >= FEWEST_TO_WATCH)


def test_the_same_seed_gives_the_same_split() -> None:
    first, second, other = (Split.of(small_samples(), 0.25, seed) for seed in (1, 1, 2))
    assert first.held_out.tolist() == second.held_out.tolist() != other.held_out.tolist()


def test_what_the_network_was_trained_on_before_is_not_held_out() -> None:
    samples = small_samples(12)
    first = Split.of(samples, 0.25, 0)
    tuned_on = TunedOn.of(samples.keys[row] for row in first.train)
    again = Split.of(samples, 0.5, 1, tuned_on)
    assert again.held_out.tolist() == first.held_out.tolist()
    assert sorted([*again.train, *again.held_out]) == list(range(len(samples)))
    with pytest.raises(FinetuneError, match="was trained on all of these inputs before"):
        Split.of(samples, 0.25, 0, TunedOn.of(samples.keys))


def test_a_class_of_one_cannot_be_parted() -> None:
    samples = replace(small_samples(4), labels=("across", "down", "mixed", "across"))
    with pytest.raises(FinetuneError, match="class 'down' has 1 different input: expected at least 2"):
        Split.of(samples, 0.25, 0)


def test_an_input_that_is_no_image_is_named() -> None:
    image = png(scene(40, 40))
    with pytest.raises(FinetuneError, match="input 1: "):
        Samples.of([image, b"no image"], ["a", "b"], SPEC)


def test_one_class_is_not_enough() -> None:
    image = png(scene(40, 40))
    with pytest.raises(FinetuneError, match="at least two classes, got 1"):
        Samples.of([image, image], ["a", "a"], SPEC)


def test_every_input_has_a_label() -> None:
    with pytest.raises(FinetuneError, match="got 1 inputs, 2 labels"):
        Samples.of([png(scene(40, 40))], ["a", "b"], SPEC)
