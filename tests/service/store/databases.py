"""The databases that the store's tests run on: SQLite in a file, PostgreSQL in a server of the tests' own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import Store
from tests.service.store.postgres import PostgresServer, binaries, running_postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"
# `make test-store` says postgresql: the store's tests then run on both, those of the service on that one.
CHOSEN = os.environ.get("TEST_DATABASE", SQLITE)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this run; each takes databases of its own from it."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """A database with all tables, to copy."""
    url = postgres.create_database()
    with Store.open(url, "/nowhere") as store:
        store.migrate()
    return url.rpartition("/")[2]


@pytest.fixture(params=list(dict.fromkeys([SQLITE, CHOSEN])))
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind that this run is about."""
    if request.param == SQLITE:
        yield f"sqlite:///{tmp_path / 'headstart.db'}"
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def chosen_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The setting for the database that this run of the tests is about: empty for the default."""
    if CHOSEN == SQLITE:
        yield ""
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.create_database(request.getfixturevalue("migrated_template"))
    yield url
    postgres.drop_database(url)
