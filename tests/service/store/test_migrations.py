"""Migrations, from every revision there ever was up to the newest, on a database that is in use."""

import hashlib
import multiprocessing
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from sqlalchemy import MetaData, func, insert, select

from service.cli import main
from service.store import SchemaError, Store, schema
from service.store.database import Database
from service.store.embeddings import VECTOR_DTYPE
from service.store.tables import metadata
from tests.service.store.test_store import DIGEST, blob_url, change, key

FIRST = "0001"
FILE = b"head"
REVISIONS = sorted(script.revision for script in ScriptDirectory(str(schema.MIGRATIONS)).walk_revisions())
TIME = {"created_at": datetime(2026, 1, 1, tzinfo=UTC)}
EMBEDDED = np.arange(4, dtype=np.float32)


def head(name: str) -> dict[str, Any]:
    """A row of the first tables."""
    names = {"name": name, "extractor_name": "tiny", "extractor_digest": DIGEST, "task": "single_label"}
    numbers = {"revision": 3, "published_version": 1, "last_version": 1}
    return {**names, **numbers, **TIME, "updated_at": TIME["created_at"]}


def fill(database: Database) -> None:
    """A row in each of the first tables, and a head that is gone again: its id was the largest."""
    rows: dict[str, dict[str, Any]] = {
        "embeddings": {
            "extractor_digest": DIGEST,
            "sha256": key(1),
            "size_bytes": 16,
            "vector": EMBEDDED.astype(VECTOR_DTYPE).tobytes(),
            **TIME,
        },
        "examples": {
            "id": "a" * 32,
            "head_id": 1,
            "extractor_digest": DIGEST,
            "sha256": key(1),
            "label": "cat",
            "size_bytes": 10,
            **TIME,
        },
        "versions": {
            "head_id": 1,
            "number": 1,
            "extractor_name": "tiny",
            "extractor_digest": DIGEST,
            "revision": 3,
            "examples_total": 1,
            "classes": ["cat", "dog"],
            "options": {},
            "report": {"accuracy": 0.5},
            "warnings": [],
            **TIME,
        },
        "head_files": {
            "head_id": 1,
            "number": 1,
            "sha256": hashlib.sha256(FILE).hexdigest(),
            "size_bytes": 4,
            "data": FILE,
        },
    }
    with database.migrating() as connection:
        command.upgrade(schema._config(connection), FIRST)
        there = MetaData()
        there.reflect(connection)
        heads = there.tables["heads"]
        for name in ("old", "gone"):
            connection.execute(insert(heads), head(name))
        connection.execute(heads.delete().where(heads.c.name == "gone"))
        for name, row in rows.items():
            connection.execute(insert(there.tables[name]), row)


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_was_there_is_there_after_every_step(revision: str, database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    fill(database)
    with database.migrating() as connection:
        command.upgrade(schema._config(connection), revision)
    with database.snapshot() as connection:
        if revision != schema.newest():
            with pytest.raises(SchemaError):
                schema.check(connection)
    with Store.open(database_url, blob_url(tmp_path)) as store:
        store.migrate()
        store.check()
        kept = store.heads.get("old")
        assert (kept.id, kept.tenant, kept.revision, kept.keep_inputs) == (1, "default", 3, False)
        assert store.heads.summary("old").label_counts == {"cat": 1}
        assert store.versions.file(1, 1) == FILE
        assert store.versions.get("old", 1).report == {"accuracy": 0.5}
        np.testing.assert_array_equal(store.embeddings.get(DIGEST, [key(1)])[key(1)], EMBEDDED)
        assert store.heads.commit(change("new", 2)).head.id == 3
        now = {"head_id": 1, "expected_revision": 3}
        changed = store.heads.commit(change("old", 5, **now))
        assert (changed.version, changed.head.revision) == (2, 4)
        store.heads.delete("old")
    database.close()


def test_migrations_make_the_tables_that_the_code_expects(database_url: str) -> None:
    database = Database(database_url)
    schema.migrate(database)
    with database.snapshot() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url)
    fill(database)
    upgrade = command.upgrade

    def fail_at_the_end(*arguments: Any) -> None:
        upgrade(*arguments)
        raise RuntimeError("the power is gone")

    monkeypatch.setattr(command, "upgrade", fail_at_the_end)
    with pytest.raises(RuntimeError):
        schema.migrate(database)
    monkeypatch.undo()
    with database.snapshot() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == FIRST
        there = MetaData()
        there.reflect(connection)
        assert connection.execute(select(func.count()).select_from(there.tables["heads"])).scalar_one() == 1
    schema.migrate(database)
    database.close()


def _migrate(database_url: str) -> None:
    with Store.open(database_url, "/nowhere") as store:
        store.migrate()


def test_processes_may_migrate_at_once(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_migrate, args=(database_url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    database = Database(database_url)
    schema.migrate(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="newer"):
        schema.migrate(database)
    database.close()


def test_the_command_makes_the_tables_and_does_nothing_the_second_time(
    database_url: str, tmp_path: Path
) -> None:
    for _ in range(2):
        done = CliRunner().invoke(main, ["migrate"], env={"HEADSTART_DATABASE_URL": database_url})
        assert done.output == f"the database is at schema {schema.newest()}\n", done.output
    with Store.open(database_url, str(tmp_path)) as store:
        store.check()


def test_the_names_of_the_migrations_are_the_chain_that_alembic_finds() -> None:
    script = ScriptDirectory(str(schema.MIGRATIONS))
    chain = [found.revision for found in script.walk_revisions()]
    assert schema.revisions() == tuple(reversed(chain))
    assert schema.newest() == script.get_current_head()


def test_a_database_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    opening = f"import sys; from service.store import Store; Store.open({url!r}, {str(tmp_path)!r}).migrate()"
    for code in (opening, f"{opening}; sys.exit('alembic' in sys.modules)"):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
