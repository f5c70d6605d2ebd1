"""A support set that goes to another extractor: all of it, with its head and its version, or not at all."""

import numpy as np
import pytest

from service.store import (
    Change,
    EmbeddingNotFoundError,
    HeadRow,
    NewExample,
    NewVersion,
    RevisionConflictError,
    Store,
    VersionNotFoundError,
)
from tests.service.store.test_store import DIGEST, change, key

OTHER = "e" * 64


def moved(head: HeadRow, *numbers: int, version: NewVersion | None = None) -> Change:
    """A change that takes a head to the other extractor, with the embeddings of some inputs."""
    return Change(
        head=head.name,
        extractor_name="other",
        extractor_digest=OTHER,
        head_id=head.id,
        expected_revision=head.revision,
        move=True,
        embeddings={key(n): np.full(6, n, np.float32) for n in numbers},
        version=version or NewVersion(file=b"moved", classes=["cat", "dog"]),
    )


def extractors_of_examples(store: Store, head: HeadRow) -> str:
    return store.examples.support_set(head.id).extractor_digest


def test_a_head_its_examples_and_its_version_move_together(store: Store) -> None:
    head = store.heads.commit(change("pets", 1, 2)).head
    committed = store.heads.commit(moved(head, 1, 2))
    assert (committed.version, committed.head.extractor_digest) == (2, OTHER)
    assert store.heads.published("pets").extractor_digest == OTHER
    assert store.examples.support_set(head.id).keys == (key(1), key(2))
    # What an example refers to is not pruned; what it left is kept as far as there is room.
    assert set(store.embeddings.get(DIGEST, [key(1), key(2)])) == {key(1), key(2)}
    store.embeddings.prune(0)
    assert not store.embeddings.get(DIGEST, [key(1), key(2)])
    assert set(store.embeddings.get(OTHER, [key(1), key(2)])) == {key(1), key(2)}


def test_a_move_without_all_embeddings_changes_nothing(store: Store) -> None:
    head = store.heads.commit(change("pets", 1, 2)).head
    with pytest.raises(EmbeddingNotFoundError) as error:
        store.heads.commit(moved(head, 1))
    assert error.value.keys == (key(2),)
    assert store.heads.get("pets") == head
    assert extractors_of_examples(store, head) == DIGEST


def test_a_move_loses_against_an_added_example(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    store.heads.commit(change("pets", 2, head_id=head.id, expected_revision=head.revision))
    with pytest.raises(RevisionConflictError):
        store.heads.commit(moved(head, 1))


def test_publishing_moves_the_head_back_and_forth(store: Store) -> None:
    head = store.heads.commit(change("pets", 1, 2)).head
    after = store.heads.commit(moved(head, 1, 2)).head
    back = store.versions.publish("pets", 1)
    assert (back.published_version, back.extractor_name, back.extractor_digest) == (1, "tiny", DIGEST)
    assert back.revision > after.revision  # a training on the other extractor is thrown out
    again = store.versions.publish("pets", 2)
    assert (again.published_version, again.extractor_digest) == (2, OTHER)
    same = store.versions.publish("pets", 2)
    assert same.revision == again.revision
    with pytest.raises(VersionNotFoundError):
        store.versions.publish("pets", 3)


def test_publishing_back_needs_every_embedding(store: Store) -> None:
    head = store.heads.commit(change("pets", 1, 2)).head
    head = store.heads.commit(moved(head, 1, 2)).head
    added = Change(
        head="pets",
        extractor_name="other",
        extractor_digest=OTHER,
        head_id=head.id,
        expected_revision=head.revision,
        add=[NewExample("cat", key(3), size_bytes=10)],
        embeddings={key(3): np.full(6, 3, np.float32)},
    )
    head = store.heads.commit(added).head
    with pytest.raises(EmbeddingNotFoundError) as error:
        store.versions.publish("pets", 1)
    assert error.value.keys == (key(3),)
    assert store.heads.get("pets") == head
    store.embeddings.put(DIGEST, {key(3): np.full(4, 3, np.float32)})
    assert store.versions.publish("pets", 1).extractor_digest == DIGEST
    assert extractors_of_examples(store, head) == DIGEST


def test_an_unpublished_version_may_be_of_another_extractor(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    version = NewVersion(file=b"tried", classes=["cat"], publish=False, extractor=("other", OTHER))
    tried = change("pets", head_id=head.id, expected_revision=head.revision, version=version)
    assert store.heads.commit(tried).head.published_version == 1
    assert store.versions.get("pets", 2).extractor_digest == OTHER
    assert extractors_of_examples(store, head) == DIGEST
    with pytest.raises(ValueError, match="published"):
        change("pets", version=NewVersion(file=b"", classes=[], extractor=("other", OTHER)))


def test_the_newest_version_of_an_extractor_is_found(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    store.heads.commit(change("others", 1))
    assert store.versions.newest(head.id, OTHER) is None
    head = store.heads.commit(change("pets", 2, head_id=head.id, expected_revision=head.revision)).head
    store.heads.commit(moved(head, 1, 2))
    found = [store.versions.newest(head.id, digest) for digest in (DIGEST, OTHER)]
    assert found == [store.versions.get("pets", number) for number in (2, 3)]
    assert store.versions.newest(head.id + 100, DIGEST) is None


def test_what_is_deleted_goes_for_every_extractor_of_the_head(store: Store) -> None:
    head = store.heads.commit(change("pets", 1, 2)).head
    head = store.heads.commit(moved(head, 1, 2)).head
    first = store.examples.support_set(head.id).ids[0]
    removal = Change("pets", "other", OTHER, head.id, head.revision, remove=[first])
    store.heads.commit(removal)
    assert not store.embeddings.get(DIGEST, [key(1)])
    assert not store.embeddings.get(OTHER, [key(1)])
    store.heads.delete("pets")
    assert store.embeddings.count() == 0
