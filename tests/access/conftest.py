"""A server of the tiny extractor with two tenants, asked in this process, and keys for it."""

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from fastapi.testclient import TestClient

from service.access.secrets import Secret
from service.api import create_app
from service.config import Settings
from service.engine import Engine
from service.preparation import prepare
from service.store import Limits, NewKey, Store
from tests.service.api.conftest import photographs
from tests.service.conftest import settings, tapped_folder, tiny_folder

__all__ = ["settings", "tapped_folder", "tiny_folder"]

OTHER = "theirs"
MakeKey = Callable[..., str]


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def store(client: TestClient) -> Store:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    engine.store.tenants.create(OTHER, Limits())
    return engine.store


@pytest.fixture
def key(store: Store) -> MakeKey:
    """Make a key and give its text."""

    def make(
        scope: str = "train",
        tenant: str = "default",
        rate: tuple[float, int] | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        secret = Secret.new()
        per_s, burst = rate or (None, None)
        store.keys.add(NewKey(secret.id, tenant, scope, secret.digest, None, per_s, burst, expires_at))
        return secret.text

    return make


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def teach(client: TestClient, name: str, key: str, start: int = 0, stop: int = 6) -> dict:
    response = client.put(f"/v1/heads/{name}", files=photographs(start, stop), headers=bearer(key))
    assert response.status_code == 201, response.text
    return response.json()
