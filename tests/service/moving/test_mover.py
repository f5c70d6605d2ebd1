"""Moves to another extractor: as a whole, only if wanted, whoever comes at the same time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import Settings
from service.embedding.embedders import open_registered
from service.embedding.registry import Registry
from service.engine import Engine
from service.errors import ApiError
from service.learning.train_options import TrainOptions
from service.moving.adoption import Adopted, adopt
from service.moving.mover import Moved
from service.preparation import prepare
from service.store import (
    Change,
    Committed,
    EmbeddingNotFoundError,
    ExtractorNotFoundError,
    HeadNotFoundError,
)
from service.waiting.gathering import Gathering
from service.waiting.turns import Turns
from tests.service.conftest import batch, tiny_extractor
from tests.service.images import sided
from training.errors import NoExamplesError
from training.heads import Head, fit_head

TRAIN = TrainOptions()
SIDES = ("left", "right")


@pytest.fixture(scope="module")
def blind_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extractor that cannot tell what the heads of these tests are to tell."""
    return tiny_extractor(tmp_path_factory.mktemp("extractors") / "blind", "blind", 2, mirrored=True)


@pytest.fixture
def engine(settings: Settings, blind_folder: Path, second_folder: Path) -> Iterator[Engine]:
    prepare(settings)
    engine = Engine.start(settings)
    registry = Registry.of(settings, engine.store)
    registry.register(blind_folder)
    registry.register(second_folder)
    yield engine
    engine.close()


def examples(start: int, stop: int) -> list[tuple[str, bytes]]:
    return [
        (side, sided(10 * number + at, side))
        for number in range(start, stop)
        for at, side in enumerate(SIDES)
    ]


def create(engine: Engine, extractor: str | None, *, keep_inputs: bool = True, stop: int = 20) -> None:
    engine.learner.replace(
        "sides",
        batch(*examples(0, stop)),
        extractor=extractor,
        keep_inputs=keep_inputs,
        train=TRAIN,
        skip_bad=False,
    )


def add(engine: Engine, number: int) -> int | None:
    return engine.learner.add(
        "sides", batch(*examples(number, number + 1)), train=TRAIN, skip_bad=False
    ).version


def move(engine: Engine, extractor: str, switch: str = "better", train: TrainOptions = TRAIN) -> Moved:
    return engine.mover.move("sides", extractor=extractor, switch=switch, train=train)  # type: ignore[arg-type]


def right(engine: Engine) -> int:
    """How many of 20 new inputs the published version gets right."""
    asked = examples(1000, 1010)
    predicted = engine.predictor.predict("sides", batch(*asked), version=None, threshold=None, skip_bad=False)
    return sum(label == found for (label, _), found in zip(asked, predicted.prediction.labels, strict=True))


def extractors(engine: Engine) -> set[str]:
    """The extractors that the head, its examples and its published version are on."""
    head = engine.store.heads.get("sides")
    return {
        head.extractor_digest,
        engine.store.examples.support_set(head.id).extractor_digest,
        engine.store.heads.published("sides").extractor_digest,
    }


def digest(engine: Engine, name: str | None) -> str:
    return engine.embedders.named(name).extractor.digest


def test_a_better_extractor_is_switched_to(engine: Engine) -> None:
    create(engine, "blind")
    assert right(engine) < 18
    moved = move(engine, "second")
    assert (moved.version, moved.switched, moved.embedded, moved.inputs) == (2, True, 40, 40)
    assert extractors(engine) == {digest(engine, "second")}
    assert right(engine) == 20
    comparison = moved.comparison
    assert comparison.better is True
    assert comparison.paired is not None
    assert comparison.before is not None
    assert comparison.paired.before == pytest.approx(comparison.before["accuracy"])
    assert comparison.paired.after == pytest.approx(comparison.after["accuracy"])
    assert comparison.paired.low > 0
    assert add(engine, 20) == 3
    with pytest.raises(ApiError) as error:
        move(engine, "second")
    assert (error.value.status, error.value.code) == (409, "same_extractor")


def test_a_worse_extractor_is_kept_unpublished_until_it_is_asked_for(engine: Engine) -> None:
    create(engine, None)
    moved = move(engine, "blind")
    assert (moved.version, moved.switched, moved.comparison.better) == (2, False, False)
    assert extractors(engine) == {digest(engine, None)}
    assert engine.store.versions.get("sides", 2).extractor_name == "blind"
    assert right(engine) == 20
    engine.store.versions.publish("sides", 2)
    assert extractors(engine) == {digest(engine, "blind")}
    assert right(engine) < 18
    engine.store.versions.publish("sides", 1)
    assert extractors(engine) == {digest(engine, None)}
    assert right(engine) == 20


def test_the_switch_can_be_forced_or_forbidden(engine: Engine) -> None:
    create(engine, "blind")
    assert not move(engine, "second", "never").switched
    assert extractors(engine) == {digest(engine, "blind")}
    again = move(engine, "second", "always")
    assert (again.switched, again.embedded) == (True, 0)
    assert move(engine, "blind", "always").switched
    assert extractors(engine) == {digest(engine, "blind")}


def test_what_was_not_kept_is_counted(engine: Engine) -> None:
    create(engine, None, keep_inputs=False, stop=4)
    before = engine.store.heads.get("sides")
    with pytest.raises(ApiError) as error:
        move(engine, "second")
    assert (error.value.status, error.value.code, error.value.details) == (
        409,
        "inputs_not_kept",
        {"missing": 8},
    )
    assert engine.store.heads.get("sides") == before
    target = engine.embedders.named("second")
    known = target.embed([data for _, data in examples(0, 4)])
    engine.store.embeddings.put(target.extractor.digest, known.vectors)
    moved = move(engine, "second", "always")
    assert (moved.switched, moved.embedded) == (True, 0)


def test_a_move_that_cannot_be_fitted_changes_nothing(engine: Engine) -> None:
    create(engine, None, stop=2)
    before = engine.store.heads.get("sides")
    with pytest.raises(ApiError, match="no class"):
        move(engine, "second", train=replace(TRAIN, classes=("up",)))
    with pytest.raises(ApiError, match="registered"):
        move(engine, "elsewhere")
    assert engine.store.heads.get("sides") == before
    with pytest.raises(HeadNotFoundError):
        engine.mover.move("nobody", extractor="second", switch="always", train=TRAIN)
    for example_id in engine.store.examples.support_set(before.id).ids:
        engine.learner.remove("sides", example_id, train=None)
    with pytest.raises(NoExamplesError):
        move(engine, "second")


def test_an_example_added_during_a_move_is_in_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create(engine, "blind")
    commit = engine.store.heads.commit
    added: list[int | None] = []

    def interrupted(change: Change) -> Committed:
        if change.move and not added:
            added.append(add(engine, 50))
        return commit(change)

    monkeypatch.setattr(engine.store.heads, "commit", interrupted)
    moved = move(engine, "second")
    assert (added, moved.version, moved.switched, moved.inputs) == ([2], 3, True, 42)
    assert engine.store.versions.get("sides", 3).examples_total == 42
    assert extractors(engine) == {digest(engine, "second")}


def test_a_move_during_an_addition_embeds_it_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create(engine, "blind")
    commit = engine.store.heads.commit
    moves: list[Moved] = []

    def interrupted(change: Change) -> Committed:
        if change.add and not moves:
            moves.append(move(engine, "second"))
        return commit(change)

    monkeypatch.setattr(engine.store.heads, "commit", interrupted)
    assert add(engine, 50) == 3
    assert extractors(engine) == {digest(engine, "second")}
    head = engine.store.heads.get("sides")
    assert len(engine.store.examples.support_set(head.id)) == 42
    assert right(engine) == 20


def test_an_example_removed_during_a_move_is_not_missed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(engine, "blind")
    head = engine.store.heads.get("sides")
    ids = list(engine.store.examples.support_set(head.id).ids[:1])
    kept_of = engine.store.inputs.of

    def late(head_id: int) -> object:
        while ids:
            engine.learner.remove("sides", ids.pop(), train=None)
        return kept_of(head_id)

    monkeypatch.setattr(engine.store.inputs, "of", late)
    moved = move(engine, "second")
    assert (moved.switched, moved.inputs) == (True, 39)


def test_an_extractor_that_goes_during_a_move_is_not_switched_to(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(engine, None, stop=4)
    before = engine.store.heads.get("sides")
    commit = engine.store.heads.commit

    def late(change: Change) -> Committed:
        Registry.of(engine.settings, engine.store).remove("second")
        return commit(change)

    monkeypatch.setattr(engine.store.heads, "commit", late)
    with pytest.raises(ExtractorNotFoundError):
        move(engine, "second", "always")
    assert engine.store.heads.get("sides") == before


def test_a_head_leaves_an_extractor_that_is_not_loaded_any_more(
    engine: Engine, settings: Settings, second_folder: Path
) -> None:
    create(engine, None)
    other = Engine.start(replace(settings, extractors=(str(second_folder),)))
    moved = move(other, "second", "always")
    other.close()
    assert (moved.switched, moved.comparison.paired) == (True, None)
    assert moved.comparison.better is False  # the intervals of two good heads overlap
    assert right(engine) == 20


def tuned_extractor(engine: Engine, folder: Path, stop: int) -> None:
    """Register an extractor that was trained on the examples up to a number."""
    tuned = tiny_extractor(folder, "tuned", 3, tuned_on=[data for _, data in examples(0, stop)])
    Registry.of(engine.settings, engine.store).register(tuned, {"kind": "finetuned"})


def test_an_extractor_tuned_on_all_examples_cannot_be_told_to_be_better(
    engine: Engine, tmp_path: Path
) -> None:
    create(engine, "blind")
    tuned_extractor(engine, tmp_path / "tuned", 20)
    moved = move(engine, "tuned")
    assert (moved.switched, moved.comparison.better, moved.comparison.paired) == (False, None, None)
    report = moved.trained.report
    assert (report.accuracy, report.held_out, report.examples) == (None, 0, 40)
    warned = "tuned_on_these_examples"
    assert warned in {warning["code"] for warning in report.warnings}
    engine.store.versions.publish("sides", moved.version)
    trained = engine.store.versions.get("sides", engine.learner.train("sides", TRAIN).version or 0)
    assert warned in {warning["code"] for warning in trained.warnings}
    assert trained.report["accuracy"] is None
    back = move(engine, "second").comparison
    assert (back.paired, back.better) == (None, None)
    assert right(engine) == 20


def test_an_extractor_tuned_on_some_examples_is_compared_by_the_others(
    engine: Engine, tmp_path: Path
) -> None:
    create(engine, "blind")
    tuned_extractor(engine, tmp_path / "tuned", 5)
    moved = move(engine, "tuned")
    assert moved.comparison.paired is not None
    assert moved.comparison.paired.held_out == moved.trained.report.held_out == 30
    assert (moved.switched, moved.comparison.better) == (True, True)
    back = move(engine, "second").comparison.paired
    assert back is not None
    assert back.held_out == 30
    add(engine, 50)
    report = engine.store.versions.get("sides", 4).report
    assert (report["examples"], report["held_out"]) == (42, 32)


def made_elsewhere(engine: Engine) -> Head:
    """A head on the second extractor, fitted on a part of the examples."""
    target = engine.embedders.named("second")
    some = examples(0, 10)
    rows = target.embed([data for _, data in some]).matrix(range(len(some)))
    return fit_head(rows, [label for label, _ in some], extractor_digest=target.extractor.digest)


def adopted(engine: Engine, head: Head, extractor: str = "second", **arguments: object) -> Adopted:
    """As a worker would do it, with an embedder of its own."""
    registry = Registry.of(engine.settings, engine.store)
    row = engine.store.extractors.named(extractor)
    assert row is not None
    embedder = open_registered(row, registry, engine.settings, Gathering(Turns(1), 1))
    try:
        return adopt(engine.store, embedder, "sides", head, **arguments)  # type: ignore[arg-type]
    finally:
        embedder.close()


def test_a_ready_made_head_is_adopted_with_its_extractor(engine: Engine) -> None:
    create(engine, "blind")
    made = made_elsewhere(engine)
    kept = adopted(engine, made, publish=False, options={"finetuned": True})
    assert (kept.version, kept.published, kept.obstacle) == (2, False, None)
    assert extractors(engine) == {digest(engine, "blind")}
    row = engine.store.versions.get("sides", 2)
    assert (row.extractor_name, row.options, row.parent_version) == ("second", {"finetuned": True}, 1)
    published = adopted(engine, made, publish=True, examples_total=20)
    assert (published.version, published.published) == (3, True)
    assert extractors(engine) == {digest(engine, "second")}
    assert engine.store.versions.get("sides", 3).examples_total == 20
    assert right(engine) == 20
    assert adopted(engine, made, publish=True).published  # once more, on the extractor that it is on


def test_a_head_of_embeddings_is_adopted_on_an_extractor_with_taps(
    engine: Engine, tapped_folder: Path
) -> None:
    create(engine, "blind")
    Registry.of(engine.settings, engine.store).register(tapped_folder)
    target = engine.embedders.named("tapped").extractor
    some = examples(0, 10)
    embeddings = target.embed([target.decode(data) for _, data in some])[:, : target.dim]
    labels = [label for label, _ in some]
    made = fit_head(embeddings, labels, extractor_digest=target.digest)
    assert adopted(engine, made, "tapped", publish=True).published
    assert right(engine) == 20
    other = fit_head(embeddings[:, 1:], labels, extractor_digest=target.digest)
    with pytest.raises(ValueError, match="layers: expected some of"):
        adopted(engine, other, "tapped", publish=True)


def test_what_came_since_and_was_not_kept_stands_against_a_switch(engine: Engine) -> None:
    create(engine, "blind", keep_inputs=False, stop=10)
    found = adopted(engine, made_elsewhere(engine), publish=True)
    assert (found.version, found.published) == (2, False)
    assert "20 of 20 inputs" in (found.obstacle or "")
    assert extractors(engine) == {digest(engine, "blind")}
    with pytest.raises(EmbeddingNotFoundError):
        engine.store.versions.publish("sides", 2)


def test_a_head_of_the_same_name_is_not_the_same_head(engine: Engine) -> None:
    create(engine, "blind", stop=4)
    head_id = engine.store.heads.get("sides").id
    engine.store.heads.delete("sides")
    create(engine, "blind", stop=4)
    with pytest.raises(HeadNotFoundError):
        adopted(engine, made_elsewhere(engine), publish=True, head_id=head_id)
    assert engine.store.heads.get("sides").last_version == 1
