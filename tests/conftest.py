"""Fixtures that every test may use: the evaluation data and the default extractor on disk."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the evaluation data: `../shared/data` beside the repository, or HEADSTART_DATA."""
    root = Path(os.environ.get("HEADSTART_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no evaluation data at {root}: set HEADSTART_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def lite0_folder() -> Path:
    """The default extractor, exported once into the folder that `make serve` uses."""
    from training.export import export_extractor

    folder = REPOSITORY / ".headstart" / "extractors" / "efficientnet-lite0"
    export_extractor("efficientnet-lite0", folder)
    return folder


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extractor of the default network with random weights, seed 0."""
    from training.export import export_extractor

    folder = tmp_path_factory.mktemp("extractors") / "random"
    export_extractor("efficientnet-lite0", folder, random_seed=0)
    return folder
