"""For suites with a target of their own: the tiny extractor, a PostgreSQL server that writes durably."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import tiny_folder
from tests.service.store.postgres import PostgresServer, running_postgres

__all__ = ["durable_postgres", "tiny_folder"]


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[PostgresServer]:
    with running_postgres(durable=True) as server:
        yield server
