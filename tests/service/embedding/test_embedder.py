"""Embedding through the caches: each input is computed once, and a bad one stops the work, not the report."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from service.cache import LruCache
from service.config import Settings
from service.embedding.embedder import Embedder
from service.embedding.writeback import EmbeddingWriter
from service.engine import Engine
from service.errors import ApiError
from service.preparation import prepare
from service.store import Store
from tests.service.images import png


def test_an_input_is_computed_once(engine: Engine) -> None:
    embedder = engine.embedders.named(None)
    first = embedder.embed([png(1), png(2), png(1)])
    assert first.keys[0] == first.keys[2] == hashlib.sha256(png(1)).hexdigest()
    assert len(first.computed) == 2
    second = embedder.embed([png(2), png(3)])
    assert set(second.computed) == {second.keys[1]}
    np.testing.assert_array_equal(second.vectors[second.keys[0]], first.vectors[first.keys[1]])


def test_embeddings_that_were_stored_survive_a_restart(settings: Settings) -> None:
    prepare(settings)
    before = Engine.start(settings)
    embedder = before.embedders.named(None)
    computed = embedder.embed([png(1), png(2)])
    before.writer.add(embedder.extractor.digest, computed.computed)
    before.close()
    after = Engine.start(settings)
    again = after.embedders.named(None).embed([png(1), png(2)])
    after.close()
    assert not again.computed
    for key, vector in computed.vectors.items():
        np.testing.assert_array_equal(again.vectors[key], vector)


def test_every_bad_input_of_a_batch_is_named(engine: Engine) -> None:
    inputs = [png(1), b"bad", png(2), b"", png(3)[:40]]
    found = engine.embedders.named(None).embed(inputs)
    assert {position: error.code for position, error in found.errors.items()} == {
        1: "not_an_image",
        3: "empty_input",
        4: "truncated_image",
    }
    assert len(found.vectors) == 2


def test_a_doomed_batch_is_not_embedded_but_every_bad_input_is_named(engine: Engine) -> None:
    doomed = threading.Event()
    doomed.set()
    found = engine.embedders.named(None).embed([png(11), b"bad", png(12), b"worse"], doomed=doomed)
    assert set(found.errors) == {1, 3}
    assert not found.computed


def test_a_bad_input_dooms_its_batch(engine: Engine) -> None:
    doomed = threading.Event()
    engine.embedders.named(None).embed([png(21), b"bad"], doomed=doomed)
    assert doomed.is_set()


def test_many_threads_get_the_same_embeddings(engine: Engine) -> None:
    embedder: Embedder = engine.embedders.named(None)
    inputs = [png(i) for i in range(30)]
    expected = embedder.embed(inputs).vectors
    results: list[dict[str, np.ndarray]] = []
    threads = [
        threading.Thread(target=lambda: results.append(dict(embedder.embed(inputs).vectors)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(result[key], expected[key]) for result in results for key in expected)


def test_an_extractor_that_is_not_loaded_is_named(engine: Engine) -> None:
    with pytest.raises(ApiError, match="loaded: tiny"):
        engine.embedders.named("other")
    with pytest.raises(ApiError, match="HEADSTART_EXTRACTORS"):
        engine.embedders.with_digest("f" * 64)


def test_the_stored_cache_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.embedding.writeback.PRUNE_EVERY_BYTES", 1)
    store = Store.open(f"sqlite:///{tmp_path / 'cache.db'}", str(tmp_path / "blobs"))
    store.migrate()
    vector = np.ones(16, np.float32)
    writer = EmbeddingWriter(store, max_bytes=10 * vector.nbytes)
    for i in range(100):
        writer.add("d" * 64, {f"{i:064x}": vector})
    writer.close()
    assert 0 < store.embeddings.count() <= 10
    store.close()


def test_the_least_recently_used_value_goes_first() -> None:
    cache: LruCache[str, str] = LruCache(10)
    cache.put("a", "A", 4)
    cache.put("b", "B", 4)
    assert cache.get("a") == "A"
    cache.put("c", "C", 4)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("A", None, "C")
    cache.put("d", "D", 11)
    assert cache.get("d") is None
    cache.put("a", "A2", 6)
    assert (cache.kept_bytes, len(cache)) == (10, 2)
