"""Stores on both kinds of database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import Store
from tests.service.store.test_store import blob_url


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    with Store.open(database_url, blob_url(tmp_path)) as store:
        store.migrate()
        yield store
