"""kill -9 before each step that a restore takes: the home is as it was, or as in the backup."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from service.backup import back_up, restore
from service.backup.scratch import PREFIX
from service.config import Settings
from service.preparation import prepare
from service.store import Store
from tests.service.backup.homes import at, require_consistent, started, teach

RENAME = "os.rename"
STEPS = {RENAME, "open", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "sqlite3.connect", "shutil.rmtree"}
OLD, NEW = {"mine"}, {"pets", "others"}


def restore_and_die(settings: Settings, path: Path, last: int | None, told: Connection) -> None:
    """Restore, and be killed before the step of that number; without one, tell what each step is about."""
    steps: list[tuple[str, str]] = []

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS:
            steps.append((event, " ".join(map(str, arguments))))
            if len(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    restore(settings, path, replace_all=True)
    told.send(steps)


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.store.test_restores"])
    return found


def _run(
    context: ForkServerContext, settings: Settings, path: Path, last: int | None
) -> list[tuple[str, str]] | None:
    """The steps of a restore, None if it was killed."""
    told, writer = context.Pipe(duplex=False)
    process = context.Process(target=restore_and_die, args=(settings, path, last, writer))
    process.start()
    writer.close()
    steps: list[tuple[str, str]] | None = None
    with suppress(EOFError):
        steps = told.recv()
    process.join()
    assert process.exitcode == (0 if steps else -signal.SIGKILL)
    return steps


def test_a_killed_restore_is_of_all_or_of_nothing(
    context: ForkServerContext, tmp_path: Path, tiny_folder: Path
) -> None:
    source = Settings(home=tmp_path / "source", extractors=(str(tiny_folder),), threads=1)
    with started(source) as engine:
        teach(engine, "pets")
        teach(engine, "others", 10, 14, keep=False)
    back_up(source, tmp_path / "copy.tar")
    before = at(source, tmp_path / "before")
    with started(before) as engine:
        teach(engine, "mine", 30, 33)
    steps = _fresh(context, before, tmp_path, None)[0]
    assert steps is not None
    rename = next(
        place for place, (event, what) in enumerate(steps, 1) if event == RENAME and "headstart.db" in what
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
) -> tuple[list[tuple[str, str]] | None, set[str]]:
    """Restore into a copy of a home, then start there: the steps, if it was not killed, and the heads."""
    there = at(before, folder / "there")
    shutil.copytree(before.home, there.home)
    steps = _run(context, there, folder / "copy.tar", last)
    left = list(there.home.glob(f"{PREFIX}*"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in left)
    prepare(there)
    assert list(there.home.glob(f"{PREFIX}*")) == []
    with Store.open(there.resolved_database_url, there.resolved_blob_url) as store:
        require_consistent(store)
        heads = {summary.head.name for summary in store.heads.list().items}
        kept = sum(len(store.inputs.of(store.heads.get(name).id)) for name in heads)
        assert sum(1 for place in ("inputs", "partial") for _ in store.blobs.entries(place)) == kept
    shutil.rmtree(there.home)
    return steps, heads
