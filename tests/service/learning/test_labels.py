"""Heads whose inputs have several labels, negatives, and what one input may not have at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from service.engine import Engine
from service.errors import ApiError
from service.ingest import Batch, Input
from service.learning import learner
from service.learning.learner import Taught
from service.learning.train_options import TrainOptions
from service.routes.predictions import render
from service.store import MULTI_LABEL, SINGLE_LABEL, Task
from tests.service.conftest import batch
from tests.service.images import png
from training.errors import TooFewClassesError
from training.heads import NEGATIVE_LABEL

TRAIN = TrainOptions()
TAGS = (("cat", 1), ("indoor", 1), ("dog", 201), ("indoor", 201), ("cat", 2), ("dog", 202))


def labelled(*pairs: tuple[str, int]) -> Batch:
    return batch(*((label, png(number)) for label, number in pairs))


def create(
    engine: Engine, *pairs: tuple[str, int], task: Task = MULTI_LABEL, train: TrainOptions | None = TRAIN
) -> Taught:
    return engine.learner.replace(
        "tags", labelled(*pairs), extractor=None, task=task, train=train, skip_bad=False
    )


def add(engine: Engine, *pairs: tuple[str, int], train: TrainOptions | None = None) -> Taught:
    return engine.learner.add("tags", labelled(*pairs), train=train, skip_bad=False)


def rows(engine: Engine) -> list[tuple[str, str]]:
    return [(row.label, row.sha256) for row in engine.store.examples.list("tags").items]


def id_of(engine: Engine, label: str, place: int = 0) -> str:
    return engine.store.examples.list("tags", label=label).items[place].id


def refused(call: Any, *arguments: Any, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        call(*arguments, **options)
    return error.value


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, Sequence[Any], str]]:
    """What is given to the fit: the embeddings, the labels and the task of each."""
    calls: list[tuple[np.ndarray, Sequence[Any], str]] = []
    fit_head = learner.fit_head

    def spy(embeddings: np.ndarray, labels: Sequence[Any], **options: Any) -> object:
        calls.append((embeddings, labels, options["options"].task))
        return fit_head(embeddings, labels, **options)

    monkeypatch.setattr(learner, "fit_head", spy)
    return calls


def test_the_labels_of_an_input_are_fitted_together(engine: Engine, fitted: list) -> None:
    taught = create(engine, *TAGS, (NEGATIVE_LABEL, 100))
    (embeddings, labels, task), *_ = fitted
    assert (task, taught.head.task, taught.classes) == (MULTI_LABEL, MULTI_LABEL, ("cat", "dog", "indoor"))
    assert labels == [("cat", "indoor"), ("dog", "indoor"), ("cat",), ("dog",), ()]
    assert embeddings.shape[0] == 5
    assert (taught.counts.total, taught.counts.added, taught.counts.embedded) == (7, 7, 5)
    version = engine.store.versions.get("tags", 1)
    assert (version.options["task"], version.classes) == (MULTI_LABEL, ("cat", "dog", "indoor"))


def test_another_label_of_the_same_input_is_added_and_the_same_is_not(engine: Engine) -> None:
    create(engine, *TAGS)
    again = add(engine, ("cat", 1), ("indoor", 1))
    assert (again.counts.added, again.counts.duplicates, again.example_ids) == (0, 2, ())
    more = add(engine, ("cat", 1), ("sunny", 1))
    assert (more.counts.added, more.counts.duplicates, len(more.example_ids)) == (1, 1, 1)
    several = Batch((Input(0, png(1), ("sunny", "old", "new"), None),), (), 1)
    taught = engine.learner.add("tags", several, train=None, skip_bad=False)
    assert (taught.counts.added, taught.counts.duplicates, taught.counts.total) == (2, 1, 9)
    assert len(set(rows(engine))) == len(rows(engine)) == 9


def test_a_single_label_head_refuses_a_second_label_in_every_form(engine: Engine) -> None:
    create(engine, ("cat", 1), ("dog", 201), task=SINGLE_LABEL)
    before = rows(engine)
    error = refused(add, engine, ("dog", 1))
    assert (error.status, error.code) == (409, "label_conflict")
    assert error.details["existing"] == {"id": id_of(engine, "cat"), "label": "cat"}
    several = Batch((Input(0, png(3), ("cat", "dog"), None),), (), 1)
    error = refused(engine.learner.add, "tags", several, train=None, skip_bad=False)
    assert (error.status, error.code, error.param) == (422, "too_many_labels", "inputs[0].labels")
    error = refused(create, engine, ("cat", 1), ("dog", 1), task=SINGLE_LABEL)
    assert (error.status, error.details["existing"]) == (409, {"id": None, "label": "cat"})
    assert rows(engine) == before


@pytest.mark.parametrize("task", [SINGLE_LABEL, MULTI_LABEL])
def test_a_negative_has_no_other_label(engine: Engine, task: Task) -> None:
    create(engine, ("cat", 1), ("dog", 201), (NEGATIVE_LABEL, 100), task=task)
    before = rows(engine)
    for pairs in (
        [("cat", 100)],
        [(NEGATIVE_LABEL, 1)],
        [(NEGATIVE_LABEL, 3), ("cat", 3)],
        [("cat", 3), (NEGATIVE_LABEL, 3)],
    ):
        error = refused(add, engine, *pairs)
        assert (error.status, error.code) == (409, "label_conflict")
    assert add(engine, (NEGATIVE_LABEL, 100)).counts.duplicates == 1
    assert rows(engine) == before


def test_negatives_are_fitted_and_are_no_class(engine: Engine, fitted: list) -> None:
    pairs = (("cat", 1), ("cat", 2), ("dog", 201), ("dog", 202), ("cow", 60), (NEGATIVE_LABEL, 100))
    assert create(engine, *pairs, task=SINGLE_LABEL).classes == ("cat", "cow", "dog")
    assert fitted[-1][1:] == (["cat", "cat", "dog", "dog", "cow", NEGATIVE_LABEL], SINGLE_LABEL)
    taught = engine.learner.train("tags", TrainOptions(classes=("cat", "dog")))
    assert fitted[-1][1] == ["cat", "cat", "dog", "dog", NEGATIVE_LABEL]
    assert taught.classes == ("cat", "dog")
    assert add(engine, ("ant", 30)).classes == ("ant", "cat", "cow", "dog")
    error = refused(engine.learner.train, "tags", TrainOptions(classes=("cat", NEGATIVE_LABEL)))
    assert (error.status, error.code) == (422, "unknown_class")


def test_some_classes_of_a_multi_label_head_take_their_inputs_and_the_negatives(
    engine: Engine, fitted: list
) -> None:
    create(engine, *TAGS, (NEGATIVE_LABEL, 100), train=None)
    engine.learner.train("tags", TrainOptions(classes=("cat", "indoor")))
    assert fitted[-1][1] == [("cat", "indoor"), ("indoor",), ("cat",), ()]


def test_relabelling_does_not_make_a_label_twice(engine: Engine) -> None:
    create(engine, *TAGS, (NEGATIVE_LABEL, 100))
    before = rows(engine)
    error = refused(engine.learner.relabel, "tags", id_of(engine, "indoor"), "cat", train=TRAIN)
    assert (error.status, error.code) == (409, "label_conflict")
    assert error.details["existing"] == {"id": id_of(engine, "cat"), "label": "cat"}
    error = refused(engine.learner.relabel, "tags", id_of(engine, "cat"), NEGATIVE_LABEL, train=TRAIN)
    assert (error.status, error.code) == (409, "label_conflict")
    assert rows(engine) == before
    engine.learner.relabel("tags", id_of(engine, "indoor"), "outdoor", train=TRAIN)
    engine.learner.relabel("tags", id_of(engine, NEGATIVE_LABEL), "cat", train=TRAIN)
    labels = [label for label, _ in rows(engine)]
    assert labels == ["cat", "outdoor", "dog", "indoor", "cat", "dog", "cat"]


def test_replacing_a_head_may_change_its_task(engine: Engine) -> None:
    create(engine, ("cat", 1), ("dog", 201), task=SINGLE_LABEL)
    create(engine, *TAGS)
    assert engine.store.heads.get("tags").task == MULTI_LABEL
    error = refused(create, engine, *TAGS, task=SINGLE_LABEL)
    assert error.code == "label_conflict"
    create(engine, ("cat", 1), ("dog", 201), task=SINGLE_LABEL)
    assert engine.store.heads.get("tags").task == SINGLE_LABEL


@pytest.mark.parametrize(("task", "kept"), [(SINGLE_LABEL, 1), (MULTI_LABEL, 4)])
def test_labels_of_one_input_from_many_threads(engine: Engine, task: Task, kept: int) -> None:
    """The rule of the task holds whoever comes first: each adds another label of one input."""
    create(engine, ("cat", 1), ("dog", 201), task=task, train=None)

    def label(name: str) -> str:
        try:
            add(engine, (name, 100))
        except ApiError as error:
            return error.code
        return "added"

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(label, ("a", "b", "c", "d")))
    assert sorted(found) == sorted(["added"] * kept + ["label_conflict"] * (4 - kept))
    assert len(rows(engine)) == 2 + kept


def predict(engine: Engine, *numbers: int, top_k: int = 10) -> list[dict[str, Any]]:
    predicted = engine.predictor.predict(
        "tags",
        labelled(*(("", number) for number in numbers)),
        version=None,
        threshold=None,
        skip_bad=False,
    )
    return render("tags", predicted, top_k)["predictions"]


def test_a_multi_label_prediction_names_the_labels_that_are_more_likely_than_not(engine: Engine) -> None:
    create(engine, *TAGS)
    for item in predict(engine, 1, 2, 201, 150):
        likely = [row["label"] for row in item["probabilities"] if row["probability"] >= 0.5]
        assert item["labels"] == likely
        assert item["label"] == item["probabilities"][0]["label"]
        assert "none_probability" not in item
    (item,) = predict(engine, 1, top_k=1)
    assert len(item["probabilities"]) == 1
    assert item["labels"] == predict(engine, 1)[0]["labels"]


def test_a_head_with_negatives_says_how_likely_none_of_its_classes_is(engine: Engine) -> None:
    pairs = [("cat", 1), ("cat", 2), ("dog", 201), ("dog", 202)]
    create(engine, *pairs, (NEGATIVE_LABEL, 100), (NEGATIVE_LABEL, 101), task=SINGLE_LABEL)
    for item in predict(engine, 1, 201, 102):
        assert 0 <= item["none_probability"] <= 1
        assert {row["label"] for row in item["probabilities"]} == {"cat", "dog"}
        assert "labels" not in item


@pytest.mark.parametrize("task", [SINGLE_LABEL, MULTI_LABEL])
def test_a_class_is_removed_whole(engine: Engine, task: Task) -> None:
    pairs = [("cat", 1), ("dog", 201), ("bird", 60), ("bird", 61)]
    create(engine, *pairs, *((("bird", 1),) if task == MULTI_LABEL else ()), task=task)
    taught = engine.learner.remove_label("tags", "bird", train=TRAIN)
    assert (taught.version, taught.classes, taught.counts.total) == (2, ("cat", "dog"), 2)
    assert [label for label, _ in rows(engine)] == ["cat", "dog"]
    before = engine.store.heads.get("tags")
    error = refused(engine.learner.remove_label, "tags", "bird", train=TRAIN)
    assert (error.status, error.code) == (404, "label_not_found")
    assert engine.store.heads.get("tags") == before


def test_a_class_that_cannot_be_spared_is_removed_without_training_only(engine: Engine) -> None:
    create(engine, ("cat", 1), ("dog", 201), (NEGATIVE_LABEL, 100), task=SINGLE_LABEL)
    before = (engine.store.heads.get("tags"), rows(engine))
    with pytest.raises(TooFewClassesError):
        engine.learner.remove_label("tags", "dog", train=TRAIN)
    with pytest.raises(TooFewClassesError):
        engine.learner.rename_label("tags", "dog", "cat", train=TRAIN)
    assert (engine.store.heads.get("tags"), rows(engine)) == before
    assert engine.learner.remove_label("tags", "dog", train=None).version is None
    assert [label for label, _ in rows(engine)] == ["cat", NEGATIVE_LABEL]


def test_a_class_is_renamed_or_merged_into_another(engine: Engine) -> None:
    create(engine, ("cat", 1), ("dog", 201), ("bird", 60), ("bird", 61), task=SINGLE_LABEL)
    ids = [row.id for row in engine.store.examples.list("tags").items]
    renamed = engine.learner.rename_label("tags", "bird", "eagle", train=TRAIN)
    assert (renamed.version, renamed.classes) == (2, ("cat", "dog", "eagle"))
    merged = engine.learner.rename_label("tags", "eagle", "cat", train=TRAIN)
    assert (merged.classes, merged.counts.total) == (("cat", "dog"), 4)
    assert [row.id for row in engine.store.examples.list("tags").items] == ids
    error = refused(engine.learner.rename_label, "tags", "eagle", "cat", train=TRAIN)
    assert (error.status, error.code) == (404, "label_not_found")


def test_merging_classes_leaves_a_label_of_an_input_once(engine: Engine) -> None:
    create(engine, *TAGS, ("kitten", 1), ("kitten", 5))
    kept = id_of(engine, "cat")
    taught = engine.learner.rename_label("tags", "kitten", "cat", train=TRAIN)
    assert (taught.classes, taught.counts.total) == (("cat", "dog", "indoor"), 7)
    assert engine.store.heads.summary("tags").label_counts == {"cat": 3, "dog": 2, "indoor": 2}
    assert id_of(engine, "cat") == kept
    before = (engine.store.heads.get("tags"), rows(engine))
    error = refused(engine.learner.rename_label, "tags", "cat", NEGATIVE_LABEL, train=TRAIN)
    assert (error.status, error.code) == (409, "label_conflict")
    assert (engine.store.heads.get("tags"), rows(engine)) == before


def test_negatives_become_a_class_and_a_class_negatives(engine: Engine, fitted: list) -> None:
    create(engine, *TAGS, ("odd", 100), (NEGATIVE_LABEL, 101))
    engine.learner.rename_label("tags", "odd", NEGATIVE_LABEL, train=TRAIN)
    assert fitted[-1][1][-2:] == [(), ()]
    taught = engine.learner.rename_label("tags", NEGATIVE_LABEL, "even", train=TRAIN)
    assert taught.classes == ("cat", "dog", "even", "indoor")


def test_the_label_that_is_there_already_changes_nothing(engine: Engine) -> None:
    learned = create(engine, ("cat", 1), ("cat", 2), ("dog", 201), ("dog", 202), task=SINGLE_LABEL)
    kept = engine.learner.relabel("tags", id_of(engine, "cat"), "cat", train=TRAIN)
    renamed = engine.learner.rename_label("tags", "dog", "dog", train=TRAIN)
    assert (kept.version, renamed.version) == (None, None)
    head = engine.store.heads.get("tags")
    assert (head.last_version, head.revision) == (1, learned.head.revision)
    assert engine.learner.train("tags", TRAIN).version == 2
