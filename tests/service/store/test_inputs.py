"""Kept inputs: there with their examples, gone with the last of them, and nothing half after a failure."""

import hashlib
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from service.store import (
    MULTI_LABEL,
    Change,
    HeadRow,
    InputNotKeptError,
    NewExample,
    RevisionConflictError,
    Store,
    StoreCorruptedError,
    StoreUnavailableError,
)
from tests.service.store.test_store import DIGEST

ANY_AGE = timedelta(0)


def data(number: int) -> bytes:
    return b"input %d" % number


def key(number: int) -> str:
    return hashlib.sha256(data(number)).hexdigest()


def commit(store: Store, name: str, *numbers: int, keep: bool | None = None, **fields: object) -> HeadRow:
    """Commit examples with their inputs, as the learner does, to a head that may be there."""
    current = store.heads.find(name)
    labels = fields.pop("labels", ("cat",))
    keeps = keep or (keep is None and current is not None and current.keep_inputs)
    change = Change(
        head=name,
        extractor_name="tiny",
        extractor_digest=DIGEST,
        head_id=current and current.id,
        expected_revision=current and current.revision,
        keep_inputs=keep,
        add=[NewExample(label, key(n), len(data(n))) for n in numbers for label in labels],  # type: ignore[attr-defined]
        embeddings={key(n): np.full(4, n, np.float32) for n in numbers},
        inputs={key(n): store.inputs.write(data(n)) for n in numbers} if keeps else {},
        **fields,  # type: ignore[arg-type]
    )
    return store.heads.commit(change).head


def blobs(store: Store) -> list[bytes]:
    return sorted(store.blobs.get(entry.key) for entry in store.blobs.entries("inputs"))


def kept(store: Store, head: HeadRow) -> dict[str, bytes]:
    return {key: read() for key, read in store.inputs.of(head.id).items()}


def ids(store: Store, name: str) -> list[str]:
    return [row.id for row in store.examples.list(name).items]


def test_a_head_keeps_the_inputs_it_was_told_to_keep(store: Store) -> None:
    pets = commit(store, "pets", 1, 2, keep=True)
    birds = commit(store, "birds", 3, keep=False)
    assert (pets.keep_inputs, birds.keep_inputs) == (True, False)
    assert kept(store, pets) == {key(n): data(n) for n in (1, 2)}
    assert kept(store, birds) == {}
    assert [row.kept for row in store.examples.list("pets").items] == [True, True]
    assert [row.kept for row in store.examples.list("birds").items] == [False]
    assert store.examples.get("pets", ids(store, "pets")[0]).kept
    with pytest.raises(InputNotKeptError, match="keep_inputs=true"):
        store.inputs.read(birds.id, key(3))


def test_an_input_goes_with_its_example_and_stays_with_another_head(store: Store) -> None:
    pets, others = commit(store, "pets", 1, 2, keep=True), commit(store, "others", 1, keep=True)
    first, _ = ids(store, "pets")
    commit(store, "pets", remove=[first])
    assert kept(store, pets) == {key(2): data(2)}
    assert kept(store, others) == {key(1): data(1)}
    assert blobs(store) == [data(1), data(2)]


def test_an_input_of_several_labels_goes_with_the_last(store: Store) -> None:
    head = commit(store, "tags", 1, keep=True, task=MULTI_LABEL, labels=("cat", "indoor"))
    assert blobs(store) == [data(1)]
    first, _ = ids(store, "tags")
    commit(store, "tags", remove=[first])
    assert kept(store, head) == {key(1): data(1)}
    commit(store, "tags", 1, labels=("outdoor",))
    assert blobs(store) == [data(1)]  # the second writing was for nothing
    commit(store, "tags", remove=ids(store, "tags"))
    assert (blobs(store), kept(store, head)) == ([], {})


def test_relabelling_keeps(store: Store) -> None:
    head = commit(store, "pets", 1, keep=True)
    commit(store, "pets", relabel={ids(store, "pets")[0]: "dog"})
    assert kept(store, head) == {key(1): data(1)}


def test_a_replaced_or_deleted_head_leaves_no_blob(store: Store) -> None:
    head = commit(store, "pets", 1, 2, keep=True)
    commit(store, "pets", 2, 3, replace_all=True)
    assert kept(store, head) == {key(n): data(n) for n in (2, 3)}
    assert blobs(store) == [data(2), data(3)]
    assert not commit(store, "pets", 3, keep=False, replace_all=True).keep_inputs
    assert blobs(store) == []
    commit(store, "pets", 4, keep=True, replace_all=True)
    store.heads.delete("pets")
    assert blobs(store) == []
    with pytest.raises(InputNotKeptError):
        store.inputs.read(head.id, key(4))


def test_a_change_that_is_refused_dooms_nothing(store: Store) -> None:
    head = commit(store, "pets", 1, keep=True)
    stale = Change(
        head="pets", extractor_name="tiny", extractor_digest=DIGEST, head_id=head.id,
        expected_revision=head.revision + 1, replace_all=True,
    )  # fmt: skip
    with pytest.raises(RevisionConflictError):
        store.heads.commit(stale)
    store.inputs.purge()
    assert kept(store, head) == {key(1): data(1)}


def test_blobs_that_cannot_be_deleted_now_are_deleted_later(store: Store, tmp_path: Path) -> None:
    head = commit(store, "pets", 1, 2, keep=True)
    commit(store, "more", 3, keep=True)
    away = tmp_path / "away"
    shutil.move(tmp_path / "blobs", away)
    (tmp_path / "blobs").write_bytes(b"")  # what is below it can be neither read nor deleted
    commit(store, "pets", remove=ids(store, "pets")[:1])
    store.heads.delete("more")
    with pytest.raises(StoreUnavailableError):
        kept(store, head)
    with pytest.raises(StoreUnavailableError):
        store.inputs.tidy()
    (tmp_path / "blobs").unlink()
    shutil.move(away, tmp_path / "blobs")
    assert len(blobs(store)) == 3
    commit(store, "other", 4, keep=True)
    store.heads.delete("other")  # whoever deletes next deletes those too
    assert blobs(store) == [data(2)]
    assert kept(store, head) == {key(2): data(2)}


def test_tidying_deletes_old_orphans_and_nothing_else(store: Store, tmp_path: Path) -> None:
    head = commit(store, "pets", 1, keep=True)
    store.inputs.write(b"of a request that a crash ended")
    partial = tmp_path / "blobs" / "partial" / "half"
    partial.write_bytes(b"ha")
    assert store.inputs.tidy() == 0  # a request may still be at work
    assert partial.exists()
    assert store.inputs.tidy(ANY_AGE) == 2
    assert store.inputs.tidy(ANY_AGE) == 0
    assert kept(store, head) == {key(1): data(1)}
    assert not partial.exists()


def test_what_became_of_the_bytes_on_the_disk_is_seen(store: Store) -> None:
    head = commit(store, "pets", 1, 2, keep=True)
    entries = {store.blobs.get(entry.key): entry.key for entry in store.blobs.entries("inputs")}
    store.blobs.put(entries[data(1)], b"other bytes")
    store.blobs.delete([entries[data(2)]])
    with pytest.raises(StoreCorruptedError, match="damaged"):
        store.inputs.read(head.id, key(1))
    with pytest.raises(StoreCorruptedError, match="missing"):
        store.inputs.read(head.id, key(2))


def test_only_new_examples_and_new_support_sets_bring_inputs_or_a_choice(store: Store) -> None:
    head = commit(store, "pets", 1, keep=True)
    now = {"head_id": head.id, "expected_revision": head.revision}
    base = {"head": "pets", "extractor_name": "tiny", "extractor_digest": DIGEST, **now}
    with pytest.raises(ValueError, match="keep_inputs"):
        Change(**base, keep_inputs=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="new examples"):
        Change(**base, inputs={key(2): store.inputs.write(data(2))})  # type: ignore[arg-type]
