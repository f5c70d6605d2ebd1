"""Extractors added while servers run: found by every process, whole or not at all, and really gone."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.config import Settings
from service.embedding.registry import Registry
from service.engine import Engine
from service.errors import ApiError
from service.learning.train_options import TrainOptions
from service.preparation import prepare
from service.store import (
    ExtractorExistsError,
    ExtractorInUseError,
    ExtractorNotFoundError,
    ExtractorUnavailableError,
    Store,
)
from tests.service.conftest import batch, tiny_extractor
from tests.service.images import png
from training.errors import ManifestError
from training.manifest import FILES, Manifest

DARK_AND_LIGHT = (("dark", png(1)), ("dark", png(2)), ("light", png(200)), ("light", png(201)))


@pytest.fixture
def registry(engine: Engine) -> Registry:
    """As a command would open it."""
    return Registry.of(engine.settings, engine.store)


def teach(engine: Engine, name: str, extractor: str | None) -> None:
    engine.learner.replace(
        name, batch(*DARK_AND_LIGHT), extractor=extractor, train=TrainOptions(), skip_bad=False
    )


def stored_blobs(store: Store) -> set[str]:
    return {entry.key for entry in store.blobs.entries("extractors")}


def test_a_running_engine_finds_what_another_process_registers(
    engine: Engine, registry: Registry, second_folder: Path
) -> None:
    with pytest.raises(ApiError, match="registered: none"):
        engine.embedders.named("second")
    row = registry.register(second_folder)
    embedder = engine.embedders.named("second")
    assert embedder.extractor.digest == row.digest == Manifest.load(second_folder).digest
    assert embedder is engine.embedders.with_digest(row.digest)
    assert not np.allclose(
        embedder.embed([png(1)]).matrix([0]), engine.embedders.named(None).embed([png(1)]).matrix([0])
    )
    teach(engine, "pets", "second")
    assert engine.store.heads.get("pets").extractor_digest == row.digest
    other = Engine.start(engine.settings)
    predicted = other.predictor.predict(
        "pets", batch(("", png(1))), version=None, threshold=None, skip_bad=False
    )
    assert predicted.prediction.labels == ["dark"]
    other.close()


def test_an_engine_without_the_files_fetches_them(
    engine: Engine, registry: Registry, second_folder: Path, settings: Settings
) -> None:
    registry.register(second_folder)
    copy = registry.fetch(registry.store.extractors.list()[0])
    assert copy.is_relative_to(settings.home)
    assert {path.name for path in copy.iterdir()} == {FILES.manifest, FILES.model, FILES.golden}
    (copy / FILES.model).write_bytes(b"damaged here")
    assert engine.embedders.named("second").embed([png(1)]).vectors


def test_many_threads_load_it_once(engine: Engine, registry: Registry, second_folder: Path) -> None:
    registry.register(second_folder)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: engine.embedders.named("second"), range(12)))
    assert len(set(map(id, found))) == 1


def test_many_processes_may_register_and_fetch_at_once(registry: Registry, second_folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: registry.register(second_folder), range(4)))
        folders = set(pool.map(registry.fetch, rows))
    assert len({row.blobs for row in rows}) == len(folders) == 1
    assert stored_blobs(registry.store) == {f"{rows[0].blobs}/{name}" for name in rows[0].manifest["files"]}
    assert [path.name for path in registry.folder.iterdir()] == [rows[0].digest]


def test_a_damaged_blob_is_refused_and_fetched_again(
    engine: Engine, registry: Registry, second_folder: Path
) -> None:
    row = registry.register(second_folder)
    key = f"{row.blobs}/{FILES.model}"
    whole = engine.store.blobs.get(key)
    for damage in (lambda: engine.store.blobs.put(key, whole[:-1]), lambda: engine.store.blobs.delete([key])):
        damage()
        with pytest.raises(ExtractorUnavailableError, match="second"):
            engine.embedders.named("second")
        assert not list(registry.folder.iterdir())
    registry.register(second_folder)  # writes the files anew
    assert engine.embedders.named("second").extractor.name == "second"


def test_names_do_not_clash(registry: Registry, second_folder: Path, tmp_path: Path) -> None:
    registry.register(second_folder)
    with pytest.raises(ExtractorExistsError):
        registry.register(tiny_extractor(tmp_path / "tiny", "tiny", seed=5))
    with pytest.raises(ExtractorExistsError):
        registry.register(tiny_extractor(tmp_path / "second", "second", seed=5))
    assert [row.name for row in registry.store.extractors.list()] == ["second"]
    assert len(stored_blobs(registry.store)) == 2


def test_what_is_no_extractor_is_not_registered(
    registry: Registry, second_folder: Path, tmp_path: Path
) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(second_folder, altered)
    (altered / FILES.model).write_bytes(b"other")
    for folder in (altered, tmp_path):
        with pytest.raises(ManifestError):
            registry.register(folder)
    assert not stored_blobs(registry.store)


def test_only_so_many_stay_loaded(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, registered_extractors=1)
    prepare(settings)
    engine = Engine.start(settings)
    registry = Registry.of(settings, engine.store)
    digests = [
        registry.register(tiny_extractor(tmp_path / name, name, seed)).digest
        for seed, name in enumerate(("one", "two"), 2)
    ]
    first = engine.embedders.named("one")
    second = engine.embedders.named("two")
    assert engine.embedders.loaded(digests[0]) is None
    assert engine.embedders.loaded(digests[1]) is second
    assert first.embed([png(1)]).vectors  # whoever has it uses it to the end
    engine.close()


def test_an_extractor_in_use_stays(engine: Engine, registry: Registry, second_folder: Path) -> None:
    registry.register(second_folder)
    teach(engine, "pets", "second")
    with pytest.raises(ExtractorInUseError, match="pets"):
        registry.remove("second")
    teach(engine, "pets", None)
    with pytest.raises(ExtractorInUseError, match="pets"):  # its first version is of that extractor
        registry.remove("second")
    assert engine.embedders.named("second")
    engine.store.heads.delete("pets")
    registry.remove("second")


def test_removing_really_deletes(engine: Engine, registry: Registry, second_folder: Path) -> None:
    row = registry.register(second_folder)
    embedder = engine.embedders.named("second")
    engine.store.embeddings.put(row.digest, embedder.embed([png(1), png(2)]).vectors)
    assert registry.remove("second") == 2
    assert not stored_blobs(engine.store)
    assert not list(registry.folder.iterdir())
    assert engine.store.embeddings.count() == 0
    with pytest.raises(ApiError) as error:
        engine.embedders.named("second")
    assert error.value.status == 404
    with pytest.raises(ExtractorNotFoundError):
        registry.remove("second")


def test_a_head_is_not_made_on_an_extractor_that_goes_meanwhile(
    engine: Engine, registry: Registry, second_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(second_folder)
    commit = engine.store.heads.commit

    def late(change):  # type: ignore[no-untyped-def]
        registry.remove("second")
        return commit(change)

    monkeypatch.setattr(engine.store.heads, "commit", late)
    with pytest.raises(ExtractorNotFoundError):
        teach(engine, "pets", "second")
    assert engine.store.heads.find("pets") is None


def test_a_start_sweeps_what_a_crash_left_and_what_is_gone(
    engine: Engine, registry: Registry, second_folder: Path
) -> None:
    row = registry.register(second_folder)
    whole = stored_blobs(engine.store)
    for name in ("left", "begun"):
        engine.store.blobs.put(f"extractors/{row.digest}/{name}/{FILES.model}", b"a part")
    blobs = engine.settings.home / "blobs" / "extractors" / row.digest
    for path in (blobs / "left", *blobs.joinpath(row.blobs.rsplit("/", 1)[1]).iterdir()):
        for file in path.iterdir() if path.is_dir() else (path,):
            os.utime(file, (0, 0))
    kept = registry.fetch(row)
    shutil.copytree(kept, registry.folder / ("0" * 64))
    (registry.folder / "begun.part").mkdir()
    prepare(engine.settings)
    assert {path.name for path in registry.folder.iterdir()} == {row.digest, "begun.part"}
    assert stored_blobs(engine.store) == whole | {f"extractors/{row.digest}/begun/{FILES.model}"}
