"""Kept inputs through the learner: nothing half after a failure or a kill, wherever it comes."""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from service.config import Settings
from service.engine import Engine
from service.errors import ApiError
from service.inputs import keeper
from service.learning.train_options import TrainOptions
from service.preparation import prepare
from service.store import HeadNotFoundError, RevisionConflictError, StoreUnavailableError
from tests.service.conftest import batch
from tests.service.images import png

KILLS = 20
ANY_AGE = timedelta(0)
PETS = [("cat", png(shade)) for shade in (20, 30, 40)] + [("dog", png(shade)) for shade in (200, 210, 220)]
TRAIN = TrainOptions()


def put(engine: Engine, name: str = "pets", *labelled: tuple[str, bytes], keep_inputs: bool | None = None):  # type: ignore[no-untyped-def]
    return engine.learner.replace(
        name, batch(*(labelled or PETS)), extractor=None, keep_inputs=keep_inputs, train=TRAIN, skip_bad=False
    )


def blob_count(engine: Engine) -> int:
    return sum(1 for prefix in ("inputs", "partial") for _ in engine.store.blobs.entries(prefix))


def kept(engine: Engine, name: str = "pets") -> set[bytes]:
    return {read() for read in engine.store.inputs.of(engine.store.heads.get(name).id).values()}


def test_a_put_and_what_is_added_are_kept(engine: Engine) -> None:
    assert put(engine).head.keep_inputs
    engine.learner.add("pets", batch(PETS[0], ("cat", png(50))), train=TRAIN, skip_bad=False)
    assert kept(engine) == {data for _, data in PETS} | {png(50)}
    assert blob_count(engine) == 7  # what was there already was not kept twice
    engine.learner.add("pets", batch(*PETS), train=TRAIN, skip_bad=False)
    assert blob_count(engine) == 7


def test_the_choice_of_a_head_stays_until_a_put_says_otherwise(engine: Engine) -> None:
    put(engine, keep_inputs=False)
    assert not put(engine).head.keep_inputs
    engine.learner.add("pets", batch(("cat", png(50))), train=TRAIN, skip_bad=False)
    assert blob_count(engine) == 0
    assert put(engine, keep_inputs=True).head.keep_inputs
    assert blob_count(engine) == 6
    assert put(engine).head.keep_inputs
    assert not put(engine, keep_inputs=False).head.keep_inputs
    assert blob_count(engine) == 0


def test_the_default_of_new_heads_is_a_setting(settings: Settings) -> None:
    settings = replace(settings, keep_inputs=False)
    prepare(settings)
    engine = Engine.start(settings)
    assert not put(engine).head.keep_inputs
    assert put(engine, "others", keep_inputs=True).head.keep_inputs
    assert blob_count(engine) == 6
    engine.close()


def test_bad_inputs_and_refused_labels_leave_no_blob(engine: Engine) -> None:
    for labelled in ([*PETS, ("cat", b"no image")], [*PETS, ("dog", PETS[0][1])]):
        with pytest.raises(ApiError):
            put(engine, "pets", *labelled)
    assert blob_count(engine) == 0
    engine.learner.replace(
        "pets", batch(*PETS, ("cat", b"no image")), extractor=None, train=TRAIN, skip_bad=True
    )
    assert kept(engine) == {data for _, data in PETS}
    assert blob_count(engine) == 6


def test_a_place_that_cannot_be_written_to_changes_nothing(engine: Engine, settings: Settings) -> None:
    put(engine, keep_inputs=False)
    before = engine.store.heads.get("pets")
    Path(settings.resolved_blob_url).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(settings.resolved_blob_url)
    Path(settings.resolved_blob_url).write_bytes(b"")
    with pytest.raises(StoreUnavailableError):
        put(engine, keep_inputs=True)
    with pytest.raises(StoreUnavailableError):
        put(engine, "others")
    assert engine.store.heads.get("pets") == before
    assert engine.store.heads.find("others") is None
    Path(settings.resolved_blob_url).unlink()
    assert put(engine, keep_inputs=True).version == 2
    assert len(kept(engine)) == 6


@pytest.fixture
def failing_commit(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """Errors that the next commits raise, each once, after the inputs were written."""
    errors: list[Exception] = []
    commit = engine.store.heads.commit

    def fail(change):  # type: ignore[no-untyped-def]
        if errors:
            raise errors.pop(0)
        return commit(change)

    monkeypatch.setattr(engine.store.heads, "commit", fail)
    yield errors
    assert not errors


def test_a_commit_that_lost_against_another_uses_the_same_blobs(
    engine: Engine, failing_commit: list[Exception]
) -> None:
    failing_commit += [RevisionConflictError("lost"), RevisionConflictError("lost again")]
    put(engine)
    assert len(kept(engine)) == blob_count(engine) == 6


def test_a_commit_that_always_loses_leaves_no_blob(engine: Engine, failing_commit: list[Exception]) -> None:
    failing_commit += [RevisionConflictError("lost")] * 8
    with pytest.raises(ApiError, match="others changed this head"):
        put(engine)
    assert blob_count(engine) == 0


def test_blobs_stay_while_it_is_not_known_whether_the_commit_was_made(
    engine: Engine, failing_commit: list[Exception]
) -> None:
    failing_commit += [StoreUnavailableError("the connection was lost")]
    with pytest.raises(StoreUnavailableError):
        put(engine)
    assert blob_count(engine) == 6
    assert engine.store.inputs.tidy() == 0
    assert engine.store.inputs.tidy(ANY_AGE) == 6


def test_inputs_of_a_request_that_took_long_are_written_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "STALE_S", -1.0)
    put(engine)
    assert len(kept(engine)) == blob_count(engine) == 6


def change_for_ever(settings: Settings, seed: int, told: Connection) -> None:
    """Create, replace, extend, shrink and delete heads; tell the state of each after every step."""
    engine = Engine.start(settings)
    rng = random.Random(seed)
    while True:
        name = f"h{rng.randrange(4)}"
        examples = [(label, png(rng.randrange(2**24))) for label in ("cat", "dog") for _ in range(3)]
        step = rng.choice(["put", "put", "add", "remove", "delete"])
        try:
            if step == "put":
                put(engine, name, *examples)
            elif step == "add":
                engine.learner.add(name, batch(*examples), train=None, skip_bad=False)
            elif step == "remove":
                rows = engine.store.examples.list(name).items
                engine.learner.remove(name, rows[0].id, train=None)
            else:
                engine.store.heads.delete(name)
        except (HeadNotFoundError, IndexError):
            continue
        told.send((name, revisions(engine).get(name)))


def revisions(engine: Engine) -> dict[str, int]:
    return {row.head.name: row.head.revision for row in engine.store.heads.list().items}


def test_kills_between_any_two_steps_lose_nothing_and_leave_nothing(
    settings: Settings, engine: Engine
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.service.inputs.test_keeping"])
    rng = random.Random(0)
    known: dict[str, int | None] = {}
    for seed in range(KILLS):
        told, writer = context.Pipe(duplex=False)
        process = context.Process(target=change_for_ever, args=(settings, seed, writer))
        process.start()
        writer.close()
        for _ in range(rng.randrange(1, 10)):
            known.update([told.recv()])
        time.sleep(rng.random() * 0.03)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with suppress(EOFError):
            while True:
                known.update([told.recv()])
        told.close()
        found = revisions(engine)
        # One step more may have been made that was never told.
        assert len([name for name in known if known[name] != found.get(name)]) <= 1
        known.update({name: found.get(name) for name in known})
        _require_whole(engine)
        engine.store.inputs.tidy(ANY_AGE)
        _require_whole(engine)
        keys = [key for row in engine.store.heads.list().items for key in engine.store.inputs.of(row.head.id)]
        assert blob_count(engine) == len(keys)


def _require_whole(engine: Engine) -> None:
    """Every example has its bytes."""
    for row in engine.store.heads.list().items:
        readers = engine.store.inputs.of(row.head.id)
        examples = engine.store.examples.list(row.head.name, limit=1000).items
        assert set(readers) == {example.sha256 for example in examples}
        for key, read in readers.items():
            assert hashlib.sha256(read()).hexdigest() == key
