"""Changes of a support set: all or nothing, in order, whoever comes at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from service.engine import Engine
from service.errors import ApiError
from service.learning.learner import MAX_ATTEMPTS
from service.learning.train_options import TrainOptions
from service.store import Change, ExampleNotFoundError, HeadNotFoundError, RevisionConflictError
from tests.service.conftest import batch
from tests.service.images import png
from training.errors import TooFewClassesError
from training.heads import FitOptions

TRAIN = TrainOptions()


def pair(number: int) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    return ("dark", png(number)), ("light", png(number + 128))


def create(engine: Engine, name: str, *numbers: int) -> None:
    examples = [example for number in numbers for example in pair(number)]
    engine.learner.replace(name, batch(*examples), extractor=None, train=TRAIN, skip_bad=False)


def test_changes_from_many_threads_all_arrive_in_order(engine: Engine) -> None:
    create(engine, "shared", 1)

    def add(number: int) -> int | None:
        for _ in range(20):
            try:
                return engine.learner.add("shared", batch(*pair(number)), train=TRAIN, skip_bad=False).version
            except ApiError as error:
                if error.code != "conflict":
                    raise
        return None

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(add, range(2, 14)))
    assert sorted(versions) == list(range(2, 14))
    head = engine.store.heads.summary("shared")
    assert head.label_counts == {"dark": 13, "light": 13}
    assert head.head.published_version == 13
    assert engine.store.versions.get("shared", 13).examples_total == 26


def test_creating_one_head_from_many_threads_gives_versions_of_one_head(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: create(engine, "raced", number), range(4)))
    head = engine.store.heads.summary("raced")
    assert head.head.last_version == 4
    assert head.label_counts == {"dark": 1, "light": 1}


def test_a_change_that_always_loses_is_a_conflict(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create(engine, "contested", 1)
    attempts: list[Change] = []

    def lose(change: Change) -> None:
        attempts.append(change)
        raise RevisionConflictError("somebody was faster")

    monkeypatch.setattr(engine.store.heads, "commit", lose)
    with pytest.raises(ApiError) as error:
        engine.learner.train("contested", TRAIN)
    assert (error.value.status, error.value.code) == (409, "conflict")
    assert len(attempts) == MAX_ATTEMPTS


def test_a_training_that_fails_changes_nothing(engine: Engine) -> None:
    create(engine, "kept", 1, 2)
    before = engine.store.heads.summary("kept")
    ids = engine.store.examples.support_set(before.head.id).ids
    one_class: Callable[[], object] = lambda: engine.learner.replace(  # noqa: E731
        "kept", batch(("dark", png(50))), extractor=None, train=TRAIN, skip_bad=False
    )
    with pytest.raises(TooFewClassesError):
        one_class()
    for example_id in ids[:2]:
        engine.learner.remove("kept", example_id, train=None)
    assert engine.store.heads.summary("kept").label_counts == {"dark": 1, "light": 1}
    with pytest.raises(TooFewClassesError):
        engine.learner.remove("kept", ids[2], train=TRAIN)
    assert engine.store.heads.summary("kept").label_counts == {"dark": 1, "light": 1}
    assert engine.store.heads.get("kept").last_version == 1


def test_examples_can_be_collected_before_training(engine: Engine) -> None:
    only_dark = batch(("dark", png(1)), ("dark", png(2)))
    created = engine.learner.replace("later", only_dark, extractor=None, train=None, skip_bad=False)
    assert (created.version, created.head.published_version) == (None, None)
    added = engine.learner.add("later", batch(("light", png(200))), train=TRAIN, skip_bad=False)
    assert (added.version, added.counts.total) == (1, 3)


def test_some_classes_can_be_left_out(engine: Engine) -> None:
    create(engine, "three", 1, 2)
    engine.learner.add("three", batch(("other", png(60))), train=None, skip_bad=False)
    taught = engine.learner.train("three", replace(TRAIN, classes=("dark", "light")))
    assert taught.classes == ("dark", "light")
    assert engine.learner.train("three", TRAIN).classes == ("dark", "light", "other")


def test_options_and_parent_are_kept_with_the_version(engine: Engine) -> None:
    create(engine, "noted", 1, 2)
    options = TrainOptions(FitOptions(regularisation=0.5, unknown_rate=0.2), publish=False)
    version = engine.learner.train("noted", options).version
    row = engine.store.versions.get("noted", version or 0)
    assert (row.options["regularisation"], row.options["unknown_rate"], row.parent_version) == (
        0.5,
        0.2,
        1,
    )


def test_what_is_not_there_is_an_error(engine: Engine) -> None:
    create(engine, "there", 1)
    with pytest.raises(ExampleNotFoundError):
        engine.learner.relabel("there", "0" * 32, "x", train=TRAIN)
    with pytest.raises(HeadNotFoundError):
        engine.learner.train("elsewhere", TRAIN)
