"""The REST application on the tiny extractor, asked in this process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api import create_app
from service.config import Settings
from service.engine import Engine
from service.preparation import prepare
from tests.service.images import png

Teach = Callable[..., dict]
SHADES = {"dark": 40, "light": 200}


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def tapped(settings: Settings, tapped_folder: Path) -> Iterator[TestClient]:
    """A server of an extractor with taps and, under `extractor=tiny`, of one without."""
    settings = replace(settings, extractors=(str(tapped_folder), *settings.extractors))
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def app_engine(client: TestClient) -> Engine:
    return client.app.state.engine  # type: ignore[attr-defined]


def photographs(start: int, stop: int) -> list[tuple[str, tuple[str, bytes]]]:
    """A dark and a light image for each number; the numbers of other calls give others."""
    return [
        (label, (f"{label}{number}.png", png(256 * number + shade)))
        for label, shade in SHADES.items()
        for number in range(start, stop)
    ]


@pytest.fixture
def teach(client: TestClient) -> Teach:
    """Create a head from a dark and a light image for each number."""

    def put(name: str, start: int = 0, stop: int = 6) -> dict:
        response = client.put(f"/v1/heads/{name}", files=photographs(start, stop))
        assert response.status_code == 201, response.text
        return response.json()

    return put


def check(response, status: int, code: str) -> dict:  # type: ignore[no-untyped-def]
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code), response.text
    return error
