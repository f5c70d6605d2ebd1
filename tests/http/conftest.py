"""The real service with the real extractor, and photographs to post to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.main_job import images_of, multipart
from benchmarks.server import Server, running


@pytest.fixture(scope="session")
def server(lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this folder: each test uses heads of its own."""
    with running(tmp_path_factory.mktemp("home"), extractor=lite0_folder) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def photos(data_root: Path) -> dict[str, list[Path]]:
    """Photographs of cats and dogs, by label."""
    return images_of(data_root / "cats_dogs")


@pytest.fixture
def teach(client: httpx.Client, photos: dict[str, list[Path]]) -> Callable[..., dict]:
    """Create a head from a slice of the photographs of each class."""

    def put(name: str, start: int = 0, stop: int = 5) -> dict:
        support = [(label, path) for label, paths in photos.items() for path in paths[start:stop]]
        response = client.put(f"/v1/heads/{name}", files=multipart(support))
        assert response.status_code == 201, response.text
        return response.json()

    return put
