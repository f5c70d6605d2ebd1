"""Loading an extractor: verified, warmed up, on the device that was asked for, or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from service.embedding.extractor import Extractor
from tests.service.images import png
from training.errors import InputError, ManifestError
from training.golden import Golden
from training.manifest import FILES, Manifest, sha256_of


def test_an_embedding_does_not_depend_on_its_batch(tiny_folder: Path) -> None:
    extractor = Extractor.load(tiny_folder)
    images = [extractor.decode(png(i)) for i in range(5)]
    together = extractor.embed(images)
    assert together.shape == (5, extractor.dim)
    assert together.dtype == np.float32
    for image, expected in zip(images, together, strict=True):
        np.testing.assert_allclose(extractor.embed([image])[0], expected, rtol=1e-5)


def test_what_is_no_image_is_an_input_error(tiny_folder: Path) -> None:
    with pytest.raises(InputError):
        Extractor.load(tiny_folder).decode(b"nothing")


def test_a_missing_folder_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="headstart export resnet50"):
        Extractor.load(tmp_path / "resnet50")


def test_an_altered_graph_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    with (folder / FILES.model).open("ab") as model:
        model.write(b"\0")
    with pytest.raises(ManifestError, match="altered"):
        Extractor.load(folder)


def test_embeddings_other_than_the_golden_ones_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    golden = Golden.load(folder)
    Golden(golden.inputs, golden.rows * 1.1).save(folder)
    manifest = Manifest.load(folder)
    files = {**manifest.files, FILES.golden: sha256_of(folder / FILES.golden)}
    Manifest(**{**vars(manifest), "files": files}).save(folder)
    with pytest.raises(ManifestError, match="golden inputs give other embeddings"):
        Extractor.load(folder)
