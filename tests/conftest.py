"""Fixtures that every test may use: the evaluation data and the default extractor on disk."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.store.databases import chosen_database_url, database_url, migrated_template, postgres

if TYPE_CHECKING:
    from training.finetune import FinetuneOptions, Progress
    from training.finetune.run import Finetuned

__all__ = ["chosen_database_url", "database_url", "migrated_template", "postgres"]

REPOSITORY = Path(__file__).resolve().parent.parent
CELLS_PER_CLASS = 6


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


@pytest.fixture(scope="session")
def cells(data_root: Path) -> tuple[list[bytes], list[str]]:
    """A few blood cells of each class, and what they are."""
    return blood_cells(data_root, 0, CELLS_PER_CLASS)


@pytest.fixture(scope="session")
def tuned_cells(
    cells: tuple[list[bytes], list[str]], lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple["Finetuned", list["Progress"]]:
    """The default extractor, its last layers trained on most of `cells`, and the progress that was told."""
    from training.finetune import finetune

    told: list[Progress] = []
    inputs, labels = cells
    folder = tmp_path_factory.mktemp("runs") / "cells"
    found = finetune(
        inputs,
        labels,
        source=lite0_folder,
        run_folder=folder,
        options=cells_options(),
        name="cells",
        progress=told.append,
    )
    return found, told


def cells_options() -> "FinetuneOptions":
    """How `tuned_cells` is trained."""
    from training.finetune import FinetuneOptions

    return FinetuneOptions(strategy="last-blocks", keep="stage6", epochs=2, augment=False, device="cpu")


def blood_cells(data_root: Path, start: int, stop: int) -> tuple[list[bytes], list[str]]:
    """The images `start` to `stop` of each class of blood cells, and what they are."""
    from training.image_folder import images_under

    paths = [
        path
        for folder in sorted((data_root / "blood_cells").iterdir())
        if folder.is_dir()
        for path in images_under(folder)[start:stop]
    ]
    return [path.read_bytes() for path in paths], [path.parent.name for path in paths]
