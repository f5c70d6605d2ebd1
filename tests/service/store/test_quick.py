"""What every prediction reads is as current as anything else, and fails as anything else."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.store import Store, StoreError, StoreUnavailableError
from service.store.database import Database
from service.store.embeddings import GET_ONE
from service.store.heads import PUBLISHED
from service.store.keys import ANY

VALUES = {"tenant": "default", "name": "pets"}


@pytest.fixture
def database(tmp_path: Path) -> Database:
    url = f"sqlite:///{tmp_path / 'headstart.db'}"
    with Store.open(url, str(tmp_path / "blobs")) as store:
        store.migrate()
    return Database(url)


def long_way(database: Database) -> list[tuple]:
    with database.single() as connection:
        return [tuple(row) for row in connection.execute(PUBLISHED, VALUES)]


def insert_head(database: Database, revision: int) -> None:
    with database.write() as connection:
        connection.execute(
            text(
                "insert into heads (tenant, name, task, extractor_name, extractor_digest, revision,"
                " last_version, keep_inputs, created_at, updated_at) values ('default', 'pets',"
                f" 'single_label', 'tiny', 'd', {revision}, 1, 0, '2026-01-01', '2026-01-01')"
            )
        )


def test_it_reads_what_others_committed(database: Database) -> None:
    assert list(database.quick(PUBLISHED, VALUES)) == long_way(database) == []
    insert_head(database, 7)
    assert [tuple(row) for row in database.quick(PUBLISHED, VALUES)] == long_way(database)
    assert database.quick(PUBLISHED, VALUES)[0][-1] == 7


@pytest.mark.parametrize(
    ("statement", "values"),
    [(PUBLISHED, VALUES), (GET_ONE, {"digest": "default d", "key": "0" * 64}), (ANY, {})],
)
def test_none_of_them_needs_the_long_way(
    database: Database, monkeypatch: pytest.MonkeyPatch, statement: Any, values: dict[str, str]
) -> None:
    monkeypatch.setattr(Database, "single", None)
    assert list(database.quick(statement, values)) == []


def test_what_fails_is_told_as_ever(database: Database) -> None:
    database.quick(PUBLISHED, VALUES)
    with database.write() as connection:
        connection.execute(text("alter table heads rename to gone"))
    with pytest.raises(StoreError):
        database.quick(PUBLISHED, VALUES)


def test_a_closed_store_refuses(database: Database) -> None:
    database.quick(PUBLISHED, VALUES)
    database.close()
    with pytest.raises(StoreUnavailableError):
        database.quick(PUBLISHED, VALUES)
