"""kill -9 at random moments: the database opens, what was acknowledged is there, nothing is half there.

Run by `make test-crash`, as docs/guide/database.md says.
"""

import multiprocessing
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.config import Settings
from service.store import Store, schema
from service.store.database import Database
from tests.service.store.postgres import PostgresServer
from tests.service.store.test_migrations import DIGEST, EMBEDDED, FIRST, fill, key
from tests.store.steps import change_for_ever, migrate
from tests.store.survey import Told, survey

KILLS = int(os.environ.get("CRASH_KILLS", "60"))
MIGRATION_KILLS = {"sqlite": KILLS // 2, "postgresql": KILLS // 6}
POSTGRESQL_KILLS = KILLS // 10
SERVER_KILLS = KILLS // 30
MOST_STEPS = 10
LONGEST_PAUSE_S = 0.06


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.store.steps", "alembic.command"])
    return found


class Child:
    """A process that is told of, until it is killed."""

    def __init__(self, context: ForkServerContext, target: Callable[..., None], *arguments: Any) -> None:
        self._told, writer = context.Pipe(duplex=False)
        self.process = context.Process(target=target, args=(*arguments, writer))
        self.process.start()
        writer.close()
        self.messages: list[tuple[str, Any]] = []

    def hear(self, count: int) -> None:
        for _ in range(count):
            with suppress(EOFError):
                self.messages.append(self._told.recv())

    def end(self, *, kill: bool = True) -> None:
        """Kill it, or wait until it has ended by itself, and hear what it still said."""
        if kill:
            self.process.kill()
        with suppress(EOFError):
            while True:
                self.messages.append(self._told.recv())
        self.process.join()
        self._told.close()


def outcome(child: Child, known: Told) -> dict[str, Any] | None:
    """Note what a child was told, and give the step that it had begun."""
    about = None
    for kind, what in child.messages:
        if kind == "about":
            about = what
        elif kind == "done":
            known[what["head"]], about = what["now"], None
    return about


def crash(
    context: ForkServerContext, settings: Settings, kills: int, *, server: PostgresServer | None = None
) -> Counter[str]:
    """Kill processes at random moments, or the database server below them, and look at all after each."""
    rng, known, counts = random.Random(kills), Told(), Counter[str]()
    for seed in range(kills):
        child = Child(context, change_for_ever, settings, seed)
        child.hear(rng.randrange(1, MOST_STEPS))
        time.sleep(rng.random() * LONGEST_PAUSE_S)
        if server is not None:
            server.kill()
        child.end(kill=server is None)
        if server is not None:
            server.start()
            assert child.messages[-1][0] == "lost"
        about = outcome(child, known)
        was_made = survey(settings, known, about)
        counts["kills"] += 1
        counts["acknowledged"] += sum(kind == "done" for kind, _ in child.messages)
        if about is not None:
            counts[f"amid {about['step']}"] += 1
            counts["unacknowledged but made"] += was_made
    return counts


def settings_on(folder: Path, extractor: Path, database_url: str = "") -> Settings:
    return Settings(home=folder, extractors=(str(extractor),), threads=1, database_url=database_url)


def shown(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def test_kills_on_sqlite(context: ForkServerContext, tmp_path: Path, tiny_folder: Path) -> None:
    counts = crash(context, settings_on(tmp_path, tiny_folder), KILLS)
    print(f"\nSQLite, processes killed and survived: {shown(counts)}")
    assert counts["kills"] == KILLS


def test_kills_on_postgresql(
    context: ForkServerContext, tmp_path: Path, tiny_folder: Path, durable_postgres: PostgresServer
) -> None:
    url = durable_postgres.create_database()
    counts = crash(context, settings_on(tmp_path, tiny_folder, url), POSTGRESQL_KILLS)
    print(f"\nPostgreSQL, processes killed and survived: {shown(counts)}")
    assert counts["kills"] == POSTGRESQL_KILLS


def test_kills_of_postgresql_itself(
    context: ForkServerContext, tmp_path: Path, tiny_folder: Path, durable_postgres: PostgresServer
) -> None:
    url = durable_postgres.create_database()
    settings = settings_on(tmp_path, tiny_folder, url)
    counts = crash(context, settings, SERVER_KILLS, server=durable_postgres)
    print(f"\nPostgreSQL killed and recovered: {shown(counts)}")
    assert counts["kills"] == SERVER_KILLS


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kills_amid_migrations(
    context: ForkServerContext, tmp_path: Path, kind: str, durable_postgres: PostgresServer
) -> None:
    """At statements that are spread over the whole way from the first tables to the newest."""
    kills, counts = MIGRATION_KILLS[kind], Counter[str]()
    old_url = _database(kind, tmp_path / "old.db", durable_postgres)
    old = Database(old_url)
    fill(old)
    old.close()
    statements = 0
    for number in range(kills + 1):
        url = _database(kind, tmp_path / f"{number}.db", durable_postgres, old_url)
        last = number * statements // kills or None
        child = Child(context, migrate, url, last)
        child.end(kill=False)
        ended = [what for about, what in child.messages if about == "done"]
        statements = statements or ended[0]
        database = Database(url)
        with database.snapshot() as connection:
            revision = schema.revision(connection)
        database.close()
        assert revision in ({schema.newest()} if ended else {FIRST, schema.newest()})
        with Store.open(url, str(tmp_path / "blobs")) as store:
            store.migrate()
            store.check()
            assert store.heads.summary("old").label_counts == {"cat": 1}
            np.testing.assert_array_equal(store.embeddings.get(DIGEST, [key(1)])[key(1)], EMBEDDED)
        counts["ended before" if ended else f"found at {revision}"] += 1
        if kind == "postgresql":
            durable_postgres.drop_database(url)
    killed = counts.total() - counts["ended before"]
    print(f"\n{kind}, migrations of {statements} statements killed: {killed}, {shown(counts)}")
    assert counts[f"found at {FIRST}"] > 0


def _database(kind: str, path: Path, server: PostgresServer, copied_from: str | None = None) -> str:
    """The URL of a database of its own: an empty one, or a copy of one that nobody has open."""
    if kind == "postgresql":
        return server.create_database(copied_from.rpartition("/")[2] if copied_from else "template0")
    if copied_from:
        shutil.copy(copied_from.removeprefix("sqlite:///"), path)
    return f"sqlite:///{path}"
