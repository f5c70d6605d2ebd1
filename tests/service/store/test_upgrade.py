"""A database of every earlier revision, with a head in it, upgraded: the head answers as it did.

An old database is made of the rows of a new one, as far as the tables of its time had columns for them.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import MetaData, insert, inspect, select

from service.api import create_app
from service.config import Settings
from service.preparation import prepare
from service.store import schema
from service.store.database import Database
from service.store.portable import go_on_counting
from service.store.tables import metadata
from tests.service.api.conftest import photographs
from tests.service.store.databases import POSTGRESQL
from tests.service.store.test_migrations import FIRST, REVISIONS

KEPT = ("embeddings", "heads", "examples", "versions", "head_files")


def answers(settings: Settings) -> dict[str, object]:
    """What a server says of the head, and of inputs that it has not seen."""
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        asked = client.post("/v1/heads/pets/predict", files=photographs(20, 24))
        assert asked.status_code == 200, asked.text
        head = client.get("/v1/heads/pets").json()
        report = client.get("/v1/heads/pets/versions/1").json()["report"]
    return {"predictions": asked.json()["predictions"], "head": head, "report": report}


def copy_as_of(revision: str, new: Database, old: Database) -> None:
    """Make the tables of a revision, and fill them with what they had columns for."""
    with old.migrating() as connection:
        command.upgrade(schema._config(connection), revision)
    then = MetaData()
    with new.snapshot() as reading, old.migrating() as writing:
        then.reflect(writing)
        for name in KEPT:
            ours = metadata.tables[name]
            both = [column for column in ours.columns if column.name in then.tables[name].columns]
            rows = [dict(row._mapping) for row in reading.execute(select(*both))]
            writing.execute(insert(then.tables[name]), rows)


def let_count_on(database_url: str) -> None:
    """The rows came with their numbers, which PostgreSQL does not count."""
    if database_url.startswith(POSTGRESQL):
        database = Database(database_url)
        with database.write() as connection:
            go_on_counting(connection)
        database.close()


@pytest.mark.parametrize(
    "revision", [FIRST, *(pytest.param(later, marks=pytest.mark.long) for later in REVISIONS[1:])]
)
def test_the_heads_of_an_old_database_answer_the_same(
    revision: str, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        taught = client.put("/v1/heads/pets?keep_inputs=false", files=photographs(0, 6))
        assert taught.status_code == 201, taught.text
    expected = answers(settings)
    new, old = Database(settings.resolved_database_url), Database(database_url)
    try:
        copy_as_of(revision, new, old)
        with old.snapshot() as connection:
            assert inspect(connection).has_table("heads")
            assert schema.revision(connection) == revision
    finally:
        new.close()
        old.close()
    upgraded = replace(settings, home=tmp_path / "upgraded", database_url=database_url)
    assert answers(upgraded) == expected
    let_count_on(database_url)
    with TestClient(create_app(upgraded)) as client:
        more = client.post("/v1/heads/pets/examples", files=photographs(6, 8))
        assert (more.status_code, more.json()["version"]) == (201, 2), more.text
