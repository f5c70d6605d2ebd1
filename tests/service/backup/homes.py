"""Homes with heads in them, and what must be true of a restored one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from service.config import Settings
from service.engine import Engine
from service.learning.train_options import TrainOptions
from service.preparation import prepare
from service.store import Store
from tests.service.conftest import batch
from tests.service.images import png
from training.heads import load_head

TRAIN = TrainOptions()


@contextmanager
def started(settings: Settings) -> Iterator[Engine]:
    prepare(settings)
    engine = Engine.start(settings)
    try:
        yield engine
    finally:
        engine.close()


def at(settings: Settings, home: Path) -> Settings:
    """The same settings for another home."""
    return replace(settings, home=home)


def teach(engine: Engine, name: str, start: int = 0, stop: int = 6, *, keep: bool = True) -> None:
    labelled = [
        (label, png(256 * number + shade))
        for label, shade in (("dark", 40), ("light", 200))
        for number in range(start, stop)
    ]
    engine.learner.replace(
        name, batch(*labelled), extractor=None, keep_inputs=keep, train=TRAIN, skip_bad=False
    )


def require_consistent(store: Store, *, inputs_gone: int = 0) -> int:
    """Every row has what it names, byte for byte; how many heads there are.

    Parameters
    ----------
    inputs_gone : how many examples of heads that keep inputs lack theirs.
    """
    lacking = 0
    heads = store.heads.list(limit=1000).items
    for summary in heads:
        head = summary.head
        support = store.examples.support_set(head.id)
        found = store.embeddings.get(head.extractor_digest, support.keys)
        assert found.keys() == set(support.keys)
        readers = store.inputs.of(head.id)
        assert readers.keys() <= (set(support.keys) if head.keep_inputs else set())
        lacking += len(set(support.keys) - readers.keys()) if head.keep_inputs else 0
        for key, read in readers.items():
            assert hashlib.sha256(read()).hexdigest() == key
        numbers = [version.number for version in store.versions.list(head.name, limit=1000).items]
        assert numbers == list(range(head.last_version, 0, -1))
        for number in numbers:
            load_head(store.versions.file(head.id, number))
    assert lacking == inputs_gone
    return len(heads)
