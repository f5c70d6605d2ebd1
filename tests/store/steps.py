"""A process that changes heads for ever, as a server does without HTTP; made to be killed.

Before each change it tells what it is about to do, after it what the head is then.
"""

import os
import random
import signal
import threading
import uuid
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy import Engine as SqlEngine
from sqlalchemy import event

from service.config import Settings
from service.engine import Engine
from service.learning.train_options import TrainOptions
from service.preparation import prepare
from service.store import Caller, HeadRow, KeptAnswer, Once, Store, StoreUnavailableError
from tests.service.conftest import batch
from tests.service.images import png

NAMES = ("a", "b", "c")
LABELS = ("cat", "dog")
STEPS = ("put", "put", "add", "remove", "train", "train", "publish", "delete")
LEASE_S, KEEP_S = 600.0, 3600.0
MOMENT_S = 0.003
State = tuple[int, int, int | None, int]


def state(head: HeadRow | None) -> State | None:
    """What an answer says of a head: its id, revision, published and last version."""
    return None if head is None else (head.id, head.revision, head.published_version, head.last_version)


def change_for_ever(settings: Settings, seed: int, told: Connection) -> None:
    """Start as a server does, then change heads until this process is killed or has lost its database."""
    try:
        prepare(settings)
        engine = Engine.start(settings)
        rng = random.Random(seed)
        while True:
            _step(engine, rng, told)
    except StoreUnavailableError as error:
        told.send(("lost", str(error)))


def migrate(database_url: str, last: int | None, told: Connection) -> None:
    """Bring a database up to date; be killed a moment after the statement, or commit, of that number begins.

    Without a number, tell how many there are.
    """
    begun = 0

    def count(*_: object) -> None:
        nonlocal begun
        begun += 1
        if begun == last:
            delay_s = random.Random(last).random() * MOMENT_S
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()

    event.listen(SqlEngine, "before_cursor_execute", count)
    event.listen(SqlEngine, "commit", count)
    with Store.open(database_url, "/nowhere") as store:
        store.migrate()
    told.send(("done", begun))


def _step(engine: Engine, rng: random.Random, told: Connection) -> None:
    name, kind = rng.choice(NAMES), rng.choice(STEPS)
    head = engine.store.heads.find(name)
    if head is None or (kind == "remove" and not _can_shrink(engine, name)):
        kind = "put"
    key = uuid.uuid4().hex
    once = engine.store.idempotency.claim(key, "f" * 64, lease_s=LEASE_S, keep_s=KEEP_S)
    assert isinstance(once, Once)
    told.send(("about", {"step": kind, "head": name, "was": state(head), "key": key}))
    _change(engine.of(replace(Caller(), once=once)), kind, name, head, rng)
    told.send(("done", {"head": name, "now": state(engine.store.heads.find(name)), "key": key}))
    engine.store.idempotency.finish(once, KeptAnswer(200, {}, b"{}"))


def _change(engine: Engine, kind: str, name: str, head: HeadRow | None, rng: random.Random) -> None:
    examples = [(label, png(rng.randrange(2**24))) for label in LABELS for _ in range(3)]
    train: Any = TrainOptions(publish=rng.random() < 0.7)
    if kind == "put":
        engine.learner.replace(name, batch(*examples), extractor=None, train=TrainOptions(), skip_bad=False)
    elif kind == "add":
        engine.learner.add(name, batch(*examples), train=train, skip_bad=False)
    elif kind == "remove":
        first = engine.store.examples.list(name).items[0]
        engine.learner.remove(name, first.id, train=train)
    elif kind == "train":
        engine.learner.train(name, train)
    elif kind == "publish":
        assert head is not None
        engine.store.versions.publish(name, rng.randint(1, head.last_version))
    else:
        engine.store.heads.delete(name)


def _can_shrink(engine: Engine, name: str) -> bool:
    counts = engine.store.heads.summary(name).label_counts
    return min(counts.values()) > 2
