"""kill -9 at the steps that a restore takes: the home is as it was, or as in the backup.

On SQLite before each of them. PostgreSQL has more, of which some are drawn by CRASH_SEED, and of these every
other one has begun when the process dies.
"""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine as SqlEngine
from sqlalchemy import event, select

from service.backup import back_up, restore
from service.backup.scratch import PREFIX
from service.config import Settings
from service.preparation import prepare
from service.store import Store, portable
from service.store.database import Database
from service.store.inputs import ORPHAN_AGE
from service.store.tables import metadata
from tests.service.backup.homes import at, require_consistent, started, teach
from tests.service.store.postgres import PostgresServer
from tests.store.steps import MOMENT_S
from tests.store.test_crash import KILLS

RENAME, COMMIT, STATEMENT = "os.rename", "commit", "statement"
STEPS = {RENAME, "open", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "sqlite3.connect", "shutil.rmtree"}
OLD, NEW = {"mine"}, {"pets", "others"}
SEED = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
POSTGRESQL_KILLS = KILLS // 3
GONE_S = 30  # until a database server has noticed that a client is gone
Steps = list[tuple[str, str]]
Rows = dict[str, list[str]]


def restore_and_die(
    settings: Settings, path: Path, last: int | None, moment_s: float, told: Connection
) -> None:
    """Restore, and be killed before the step of that number, or a moment after it has begun.

    Without a number, tell what each step is about.
    """
    steps: Steps = []

    def count(kind: str, what: str) -> None:
        steps.append((kind, what))
        if len(steps) == last:
            if moment_s:
                threading.Timer(moment_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(kind: str, arguments: tuple[Any, ...]) -> None:
        if kind in STEPS:
            count(kind, " ".join(map(str, arguments)))

    sys.addaudithook(hook)
    if settings.database_url:
        event.listen(SqlEngine, "before_cursor_execute", lambda _, __, text, *___: count(STATEMENT, text))
        event.listen(SqlEngine, COMMIT, lambda connection: count(COMMIT, connection.dialect.name))
    restore(settings, path, replace_all=True)
    told.send(steps)


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.store.test_restores"])
    return found


def _run(
    context: ForkServerContext, settings: Settings, path: Path, last: int | None, moment_s: float = 0
) -> Steps | None:
    """The steps of a restore, None if it was killed."""
    told, writer = context.Pipe(duplex=False)
    process = context.Process(target=restore_and_die, args=(settings, path, last, moment_s, writer))
    process.start()
    writer.close()
    steps: Steps | None = None
    with suppress(EOFError):
        steps = told.recv()
    process.join()
    # A moment after its last step it has told them, and may still die before it ends.
    assert process.exitcode == -signal.SIGKILL or (steps and process.exitcode == 0)
    return steps


@pytest.fixture
def before(tmp_path: Path, tiny_folder: Path) -> Settings:
    """A home with a head, beside `copy.tar`, the backup of another one."""
    source = Settings(home=tmp_path / "source", extractors=(str(tiny_folder),), threads=1)
    with started(source) as engine:
        teach(engine, "pets")
        teach(engine, "others", 10, 14, keep=False)
    back_up(source, tmp_path / "copy.tar")
    return at(source, tmp_path / "before")


def test_a_killed_restore_is_of_all_or_of_nothing(
    context: ForkServerContext, tmp_path: Path, before: Settings
) -> None:
    with started(before) as engine:
        teach(engine, "mine", 30, 33)
    steps = _fresh(context, before, tmp_path, None)[0]
    assert steps is not None
    rename = next(
        place for place, (kind, what) in enumerate(steps, 1) if kind == RENAME and "headstart.db" in what
    )
    found: Counter[str] = Counter()
    for last in range(1, len(steps) + 1):
        killed, heads = _fresh(context, before, tmp_path, last)
        assert killed is None
        assert heads in (OLD, NEW), last
        # Once the rename was made, it is made.
        assert heads == (NEW if last > rename else OLD), (last, steps[last - 1])
        found["old" if heads == OLD else "new"] += 1
    print(f"\nSQLite, restores killed before each of {len(steps)} steps: {dict(found)}")
    assert min(found["old"], found["new"]) > 0


def _fresh(
    context: ForkServerContext, before: Settings, folder: Path, last: int | None
) -> tuple[Steps | None, set[str]]:
    """Restore into a copy of a home, then start there: the steps, if it was not killed, and the heads."""
    there = at(before, folder / "there")
    shutil.copytree(before.home, there.home)
    steps = _run(context, there, folder / "copy.tar", last)
    heads = _started_again(there)
    shutil.rmtree(there.home)
    return steps, heads


def _started_again(there: Settings) -> set[str]:
    """The heads after a start, which leaves nothing of what was at work before."""
    left = list(there.home.glob(f"{PREFIX}*"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in left)
    prepare(there)
    assert list(there.home.glob(f"{PREFIX}*")) == []
    with Store.open(there.resolved_database_url, there.resolved_blob_url) as store:
        require_consistent(store)
        heads = {summary.head.name for summary in store.heads.list().items}
        kept = sum(len(store.inputs.of(store.heads.get(name).id)) for name in heads)
        assert sum(1 for place in ("inputs", "partial") for _ in store.blobs.entries(place)) == kept
    return heads


def test_a_killed_restore_on_postgresql_is_of_all_or_of_nothing(
    context: ForkServerContext, tmp_path: Path, before: Settings, durable_postgres: PostgresServer
) -> None:
    before = replace(before, database_url=durable_postgres.create_database())
    with started(before) as engine:
        # Rows with higher numbers than those of the backup.
        for last in (31, 32, 33):
            teach(engine, "mine", 30, last)
    old = _rows(before.database_url)
    there = _copied(before, tmp_path / "there", durable_postgres)
    steps = _run(context, there, tmp_path / "copy.tar", None)
    assert steps is not None
    new = _rows(there.database_url)
    assert new != old
    commit = max(place for place, step in enumerate(steps, 1) if step == (COMMIT, "postgresql"))
    found: Counter[str] = Counter()
    for last, moment_s in _drawn(len(steps), commit):
        there = _copied(before, tmp_path / "there", durable_postgres)
        killed = _run(context, there, tmp_path / "copy.tar", last, moment_s)
        rows = _rows(there.database_url)
        assert rows in (old, new), (last, steps[last - 1])
        _require_usable(there, OLD if rows == old else NEW)
        restore(there, tmp_path / "copy.tar", replace_all=True)
        assert _rows(there.database_url) == new
        durable_postgres.drop_database(there.database_url)
        found["not killed" if killed else "old" if rows == old else "new"] += 1
    print(f"\nPostgreSQL, CRASH_SEED={SEED}: restores killed at some of {len(steps)} steps: {dict(found)}")
    # A run has a step or two more or less than another, so that which of them is the commit is not certain.
    assert found["old"] > 0


def _drawn(count: int, commit: int) -> Sequence[tuple[int, float]]:
    """Steps to die before, and steps to die in: some of all, and those about the commit."""
    rng = random.Random(SEED)
    places = rng.sample(range(1, count + 1), min(count, POSTGRESQL_KILLS))
    drawn = [(place, rng.random() * MOMENT_S * (number % 2)) for number, place in enumerate(places)]
    return [*drawn, (commit, 0), (commit, rng.random() * MOMENT_S), (min(commit + 1, count), 0)]


def _copied(before: Settings, home: Path, server: PostgresServer) -> Settings:
    """The home at another place, on a copy of its database."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(before.home, home)
    url = server.create_database(before.database_url.rpartition("/")[2])
    return replace(at(before, home), database_url=url)


def _rows(url: str) -> Rows:
    """Every row of every table, once nobody else has a connection."""
    database = Database(url)
    deadline_s = time.monotonic() + GONE_S
    try:
        while True:
            with database.snapshot() as connection:
                if not portable.count_others(connection):
                    return {
                        table.name: sorted(map(repr, connection.execute(select(table))))
                        for table in metadata.sorted_tables
                    }
            assert time.monotonic() < deadline_s, "a killed restore still has a connection"
            time.sleep(0.01)
    finally:
        database.close()


def _require_usable(there: Settings, heads: set[str]) -> None:
    """Started an hour later, it has these heads, nothing that no row names, and learns another one."""
    long_ago = time.time() - 2 * ORPHAN_AGE.total_seconds()
    for path in (there.home / "blobs").rglob("*"):
        os.utime(path, (long_ago, long_ago))
    assert _started_again(there) == heads
    with started(there) as engine:
        teach(engine, "another", 40, 42)
