"""Files are embedded once, as the service embeds them, and a command that was stopped goes on."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from service.embedding.extractor import Extractor
from tests.training.folders import photographs
from training import image_embedding
from training.embedding_cache import EmbeddingCache
from training.errors import InputError, ManifestError
from training.golden import Golden
from training.image_embedding import ImageEmbedder, embed_images, time_images


@pytest.fixture(scope="module")
def embedder(lite0_folder: Path) -> ImageEmbedder:
    return ImageEmbedder.load(lite0_folder)


@pytest.fixture(scope="module")
def paths(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = photographs(data_root, tmp_path_factory.mktemp("images") / "pets", 5)
    return sorted(folder.rglob("*.jpg"))


@pytest.fixture(scope="module")
def keys(paths: list[Path]) -> list[bytes]:
    return [hashlib.sha256(path.read_bytes()).digest() for path in paths]


class Stopped(Exception):
    """As if the user had pressed Ctrl-C."""


def test_embeddings_are_those_of_the_service(
    embedder: ImageEmbedder, paths: list[Path], keys: list[bytes], lite0_folder: Path, tmp_path: Path
) -> None:
    found = embed_images(embedder, paths, keys, tmp_path, threads=2)
    extractor = Extractor.load(lite0_folder)
    expected = [extractor.embed([extractor.decode(path.read_bytes())])[0] for path in paths]
    np.testing.assert_array_equal(found.rows, np.stack(expected))
    assert found.cached == 0


def test_a_run_that_was_stopped_goes_on(
    embedder: ImageEmbedder,
    paths: list[Path],
    keys: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_embedding, "CHUNK", 4)

    def stop(done: float) -> None:
        if done == 0.8:
            raise Stopped

    with pytest.raises(Stopped):
        embed_images(embedder, paths, keys, tmp_path, tell=stop)
    done: list[float] = []
    resumed = embed_images(embedder, paths, keys, tmp_path, tell=done.append)
    assert (resumed.cached, done) == (8, [0.8, 1.0])
    again = embed_images(embedder, paths[::-1], keys[::-1], tmp_path)
    assert again.cached == 10
    np.testing.assert_array_equal(again.rows, resumed.rows[::-1])


def test_a_file_that_changes_meanwhile_is_not_cached_under_the_wrong_key(
    embedder: ImageEmbedder, paths: list[Path], keys: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"{paths[0].name} was changed"):
        embed_images(embedder, paths[:1], keys[1:2], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_time_is_that_of_the_images(embedder: ImageEmbedder, paths: list[Path]) -> None:
    timing = time_images(embedder, paths, most=6)
    assert timing.images == 6
    assert 0 < timing.decode_ms < timing.total_ms
    assert 0 < timing.network_ms < timing.total_ms
    assert time_images(embedder, paths[:2]).images == 2


def test_an_extractor_that_gives_other_embeddings_is_refused(lite0_folder: Path, tmp_path: Path) -> None:
    """The manifest is altered to fit, so that the golden inputs alone can tell."""
    from dataclasses import replace

    from training.manifest import FILES, Manifest, sha256_of

    for path in lite0_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    golden, manifest = Golden.load(tmp_path), Manifest.load(tmp_path)
    Golden(golden.inputs, golden.rows * np.float32(1.1)).save(tmp_path)
    files = {**manifest.files, FILES.golden: sha256_of(tmp_path / FILES.golden)}
    replace(manifest, files=files).save(tmp_path)
    with pytest.raises(ManifestError, match="other embeddings than recorded"):
        ImageEmbedder.load(tmp_path)


def test_the_cache_returns_what_was_added_and_drops_what_is_damaged(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "digest", 3)
    assert cache.read() == {}
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    keys = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    cache.add(keys[:2], rows)
    (whole,) = cache.folder.iterdir()
    cache.add(keys[2:], rows[:1])
    (other,) = set(cache.folder.iterdir()) - {whole}
    other.write_bytes(other.read_bytes()[:100])
    found = cache.read()
    assert found.keys() == set(keys[:2])
    np.testing.assert_array_equal(found[keys[1]], rows[1])
    assert set(cache.folder.iterdir()) == {whole}
    assert EmbeddingCache(cache.folder, 4).read() == {}
