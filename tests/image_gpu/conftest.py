"""The GPU image in place of the CPU's, for the same containers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.conftest import built, lab, start, volume
from tests.image.lab import Lab

__all__ = ["lab", "start", "volume"]


@pytest.fixture(scope="session")
def image(lab: Lab, lite0_folder: Path) -> Iterator[str]:
    """The GPU image."""
    with built(lab, lite0_folder, "localhost/headstart-test:gpu", "--gpu") as tag:
        yield tag
