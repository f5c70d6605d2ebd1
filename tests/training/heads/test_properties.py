"""What holds for every support set, however odd."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.errors import InputError, NoExamplesError, SupportSetError, TooFewClassesError
from training.heads import (
    NEGATIVE_LABEL,
    TASKS,
    FitOptions,
    Head,
    HeadStack,
    fit_head,
    load_head,
    save_head,
)

FLOAT32_MAX = float(np.finfo(np.float32).max)
CONTENTS = ("gaussian", "positive", "constant", "zero", "few_values", "huge", "tiny", "mixed", "one_hot")
SINGLE = ("single_label",)
usual = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True, repr=False)
class Problem:
    """A support set and inputs to ask about."""

    embeddings: npt.NDArray[np.float32]
    labels: list
    asked: npt.NDArray[np.float32]
    options: FitOptions

    def __repr__(self) -> str:
        parts = (self.embeddings.tolist(), self.labels, self.options)
        return f"Problem(np.array({parts[0]}, np.float32), {parts[1]}, ..., {parts[2]})"

    def fit(self, rows=None) -> Head:
        rows = range(len(self.labels)) if rows is None else rows
        chosen = [self.labels[row] for row in rows]
        return fit_head(self.embeddings[list(rows)], chosen, extractor_digest="digest", options=self.options)


def _content(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    values = rng.standard_normal(shape)
    if kind == "positive":
        values = np.maximum(values, 0)
    elif kind == "constant":
        values = np.full(shape, 3.5)
    elif kind == "zero":
        values = np.zeros(shape)
    elif kind == "few_values":
        values = rng.integers(-1, 2, shape)
    elif kind == "huge":
        values = np.sign(values) * rng.uniform(0.1, 1, shape) * FLOAT32_MAX
    elif kind == "tiny":
        values = values * 1e-40
    elif kind == "mixed":
        values = values * 10.0 ** rng.integers(-38, 37, (shape[0], 1))
    elif kind == "one_hot":
        values = np.eye(shape[1])[rng.integers(0, shape[1], shape[0])]
    return values.astype(np.float32)


@st.composite
def problems(draw, tasks=TASKS, contents=CONTENTS, fewest=1, repeats=True):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim = draw(st.sampled_from([1, 2, 3, 16, 65, 130]))
    classes, shots = draw(st.integers(2, 5)), draw(st.integers(fewest, 9))
    chosen = draw(st.sampled_from(tasks))
    counts = [draw(st.integers(fewest, shots)) for _ in range(classes)]
    names = [f"class {number}" for number in range(classes)]
    labels = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    if chosen == "single_label":
        labels += [NEGATIVE_LABEL] * draw(st.integers(0, 4))
    else:
        labels = [{label, *(rng.choice(names, rng.integers(0, 3)).tolist())} for label in labels]
        labels += [set()] * draw(st.integers(0, 3))
    kind = draw(st.sampled_from(contents))
    embeddings = _content(kind, (len(labels), dim), rng)
    if repeats and draw(st.booleans()):  # some rows repeat others, under any label
        embeddings = embeddings[rng.integers(0, len(labels), len(labels))]
    options = FitOptions(
        task=chosen,
        transform=draw(st.sampled_from([None, "l2", "signed_root_l2"])),
        regularisation=draw(st.sampled_from([None, None, 1e-3, 1.0, 1e3])),
    )
    return Problem(embeddings, labels, _content(kind, (4, dim), rng), options)


def _state(head: Head) -> bytes:
    """All of a head but how long it took."""
    report = head.report
    return save_head(replace(head, report=replace(report, timings_ms={})))


@usual
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_examples_does_not_change_a_bit(problem, random):
    order = list(range(len(problem.labels)))
    random.shuffle(order)
    assert _state(problem.fit(order)) == _state(problem.fit())


@usual
@given(problems(contents=("gaussian", "positive"), repeats=False), st.randoms(use_true_random=False))
def test_other_names_permute_the_probabilities(problem, random):
    names = problem.fit().classes
    new = dict(zip(names, random.sample([f"name {i}" for i in range(9)], len(names)), strict=True))
    new[NEGATIVE_LABEL] = NEGATIVE_LABEL
    labels = [
        new[label] if isinstance(label, str) else {new[name] for name in label} for label in problem.labels
    ]
    one = problem.fit()
    other = replace(problem, labels=labels).fit()
    columns = [other.classes.index(new[name]) for name in names]
    first, second = one.predict(problem.asked), other.predict(problem.asked)
    # Only equal embeddings under several labels (one dimension has no other) are told apart by their names.
    if len(np.unique(problem.embeddings, axis=0)) == len(problem.embeddings):
        np.testing.assert_array_equal(first.probabilities, second.probabilities[:, columns])
        np.testing.assert_array_equal(first.typicality, second.typicality)


@usual
@given(problems())
def test_answers_are_what_they_say(problem):
    head = problem.fit()
    for asked in (problem.embeddings, problem.asked, 0 * problem.asked, -problem.asked):
        found = head.predict(asked)
        assert found.probabilities.dtype == found.typicality.dtype == np.float32
        assert found.probabilities.shape == (len(asked), len(head.classes))
        assert ((found.probabilities >= 0) & (found.probabilities <= 1)).all()
        assert ((found.typicality >= 0) & (found.typicality <= 1)).all()
        if head.task == "single_label":
            np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
        assert (found.probabilities.argmax(axis=1) == found.best).all()
        if found.negative is not None:
            assert ((found.negative >= 0) & (found.negative <= 1)).all()


@usual
@given(problems())
def test_an_input_has_the_same_bits_alone_and_in_company(problem):
    head = problem.fit()
    together = head.predict(problem.asked)
    for row in range(len(problem.asked)):
        alone = head.predict(problem.asked[row : row + 1])
        assert alone.probabilities[0].tobytes() == together.probabilities[row].tobytes()
        assert alone.typicality[0] == together.typicality[row]


@usual
@given(problems())
def test_a_saved_head_answers_with_the_same_bits(problem):
    head = problem.fit()
    data = save_head(head)
    again = load_head(data, extractor_digest="digest")
    assert save_head(again) == data
    one, other = head.predict(problem.asked), again.predict(problem.asked)
    assert one.probabilities.tobytes() == other.probabilities.tobytes()
    assert one.typicality.tobytes() == other.typicality.tobytes()
    assert one.unknown.tolist() == other.unknown.tolist()


@usual
@given(st.lists(problems(), min_size=1, max_size=4))
def test_a_stack_agrees_with_its_heads(several):
    heads = [problem.fit() for problem in several if problem.asked.shape[1] == several[0].asked.shape[1]]
    for asked in several[0].asked:
        found = HeadStack(heads).predict(asked)
        for index, head in enumerate(heads):
            alone = head.predict(asked[None, :])
            np.testing.assert_allclose(found.probabilities(index), alone.probabilities[0], rtol=0, atol=1e-6)
            assert found.typicality[index] == pytest.approx(alone.typicality[0], abs=1e-6)
            if alone.negative is not None:
                assert found.negative[index] == pytest.approx(alone.negative[0], abs=1e-6)


@usual
@given(problems(fewest=2), st.data())
def test_added_and_removed_again_leaves_no_trace(problem, data):
    extra = data.draw(st.integers(0, len(problem.labels) - 1))
    first = problem.fit()
    grown = replace(
        problem,
        embeddings=np.vstack((problem.embeddings, problem.asked[:1])),
        labels=[*problem.labels, problem.labels[extra]],
    )
    grown.fit()
    assert _state(grown.fit(range(len(problem.labels)))) == _state(first)


@usual
@given(problems(tasks=SINGLE, contents=("gaussian", "positive", "few_values")))
def test_all_examples_twice_is_the_same_head(problem):
    """A copy is never trained on while the other is held out, so that nothing looks better than it is."""
    twice = replace(
        problem,
        embeddings=np.vstack((problem.embeddings, problem.embeddings)),
        labels=[*problem.labels, *problem.labels],
        options=replace(problem.options, regularisation=1.0),
    )
    once = replace(problem, options=replace(problem.options, regularisation=0.5))
    one, other = once.fit(), twice.fit()
    # Twice the weights and twice the penalty: the same scores.
    if one.transform == other.transform:  # rounding decides between transforms that are equally good
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)
    assert one.report.held_out == other.report.held_out


@usual
@given(st.integers(10, 60), st.integers(1, 9), st.sampled_from([1, 64]))
def test_where_inputs_tell_nothing_a_label_is_as_likely_as_it_was_frequent(count, tenths, dim):
    labels = [{"often"} if row % 10 < tenths else set() for row in range(count)]
    labels[-1] = labels[-1] | {"rare"}
    embeddings = np.full((count, dim), 2.0, np.float32)
    options = FitOptions(task="multi_label")
    head = fit_head(embeddings, labels, extractor_digest="digest", options=options)
    often, rare = head.predict(embeddings[:1]).probabilities[0]
    assert often == pytest.approx(np.mean(["often" in names for names in labels]), abs=0.15)
    assert rare < 0.2


@usual
@given(problems(tasks=SINGLE), st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_nan_and_infinity_are_refused(problem, value, data):
    embeddings = problem.embeddings.copy()
    row = data.draw(st.integers(0, len(embeddings) - 1))
    embeddings[row, -1] = value
    with pytest.raises(SupportSetError, match=f"row {row}$"):
        replace(problem, embeddings=embeddings).fit()
    with pytest.raises(InputError, match=f"row {row}$"):
        problem.fit().predict(embeddings)


@usual
@given(problems())
def test_one_class_and_none_are_refused(problem):
    one = ["a"] if problem.options.task == "single_label" else [{"a"}]
    with pytest.raises(TooFewClassesError):
        replace(problem, labels=one * len(problem.labels)).fit()
    with pytest.raises(NoExamplesError):
        replace(problem, labels=[], embeddings=problem.embeddings[:0]).fit()


@usual
@given(problems(tasks=SINGLE, contents=("gaussian", "positive")), st.sampled_from([1e-3, 8.0, 2.0**20]))
def test_the_length_of_embeddings_does_not_matter(problem, scale):
    one = problem.fit()
    other = replace(problem, embeddings=(problem.embeddings * np.float32(scale))).fit()
    if one.transform == other.transform and one.report.regularisation == other.report.regularisation:
        # The calibration depends on which examples are left out together, and that on their content.
        np.testing.assert_allclose(one.weights, other.weights, atol=2e-3)
        np.testing.assert_allclose(one.bias, other.bias, atol=2e-3)
