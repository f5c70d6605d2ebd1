"""The store: what is committed is there for everyone, what is refused left no trace."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.store import (
    MULTI_LABEL,
    SINGLE_LABEL,
    Change,
    DuplicateExampleError,
    ExampleNotFoundError,
    HeadNotFoundError,
    NewExample,
    NewVersion,
    RevisionConflictError,
    SchemaError,
    Store,
    VersionNotFoundError,
)

DIGEST = "d" * 64
KILLS = 5


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'headstart.db'}"


def blob_url(folder: Path) -> str:
    return str(folder / "blobs")


def key(number: int) -> str:
    return f"{number:064x}"


def change(name: str, *numbers: int, label: str = "cat", **fields: object) -> Change:
    """A change that adds one example for each number, with its embedding and a version."""
    made = Change(
        head=name,
        extractor_name="tiny",
        extractor_digest=DIGEST,
        add=[NewExample(label, key(n), size_bytes=10, source_id=f"{n}.png") for n in numbers],
        embeddings={key(n): np.full(4, n, np.float32) for n in numbers},
        version=NewVersion(file=b"head %d" % len(numbers), classes=[label, "dog"], report={"accuracy": 0.5}),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def test_a_committed_head_comes_back_whole(store: Store, database_url: str, tmp_path: Path) -> None:
    committed = store.heads.commit(change("pets", 1, 2))
    other = Store.open(database_url, blob_url(tmp_path))
    assert other.heads.get("pets") == committed.head
    assert other.heads.summary("pets").label_counts == {"cat": 2}
    published = other.heads.published("pets")
    assert (published.number, published.extractor_digest) == (1, DIGEST)
    assert other.versions.file(published.head_id, 1) == b"head 2"
    assert other.versions.get("pets", 1).report == {"accuracy": 0.5}
    support = other.examples.support_set(published.head_id)
    assert (support.ids, support.keys) == (committed.example_ids, (key(1), key(2)))
    np.testing.assert_array_equal(other.embeddings.get(DIGEST, [key(2)])[key(2)], np.full(4, 2, np.float32))
    other.close()


def test_a_change_of_an_old_revision_is_refused_and_leaves_nothing(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    at_first = {"head_id": head.id, "expected_revision": head.revision}
    store.heads.commit(change("pets", 2, **at_first))
    with pytest.raises(RevisionConflictError):
        store.heads.commit(change("pets", 3, **at_first))
    with pytest.raises(RevisionConflictError):
        store.heads.commit(change("pets", 4))
    assert store.heads.summary("pets").label_counts == {"cat": 2}
    assert not store.embeddings.get(DIGEST, [key(3), key(4)])


def test_a_change_that_fails_half_way_leaves_nothing(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    now = {"head_id": head.id, "expected_revision": head.revision}
    with pytest.raises(DuplicateExampleError):
        store.heads.commit(change("pets", 2, 1, **now))
    with pytest.raises(ExampleNotFoundError):
        store.heads.commit(change("pets", 2, remove=["0" * 32], **now))
    assert store.heads.get("pets") == head
    assert not store.embeddings.get(DIGEST, [key(2)])


def test_a_single_label_head_has_one_example_of_an_input_whoever_writes(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    now = {"head_id": head.id, "expected_revision": head.revision}
    with pytest.raises(DuplicateExampleError) as error:
        store.heads.commit(change("pets", 1, label="dog", **now))
    (there,) = store.examples.list("pets").items
    assert error.value.existing == {key(1): there.id}
    with pytest.raises(DuplicateExampleError):
        store.heads.commit(change("pets", 2, 2, **now))
    with pytest.raises(DuplicateExampleError):
        store.heads.commit(change("twice", 2, 2))
    with pytest.raises(DuplicateExampleError):
        store.heads.commit(change("pets", 2, 2, replace_all=True, **now))
    assert store.heads.get("pets") == head


def test_a_multi_label_head_has_each_label_of_an_input_once(store: Store) -> None:
    both = [NewExample(label, key(1), size_bytes=10) for label in ("cat", "indoor")]
    head = store.heads.commit(change("tags", 1, task=MULTI_LABEL, add=both)).head
    assert (head.task, store.heads.get("tags").task) == (MULTI_LABEL, MULTI_LABEL)
    now = {"head_id": head.id, "expected_revision": head.revision}
    ids = {row.label: row.id for row in store.examples.list("tags").items}
    for refused in (
        change("tags", 1, label="cat", **now),
        change("tags", 1, 1, label="new", **now),
        change("tags", relabel={ids["indoor"]: "cat"}, **now),
        change("tags", 1, label="new", relabel={ids["cat"]: "new"}, **now),
        change("twice", 1, 1, task=MULTI_LABEL),
    ):
        with pytest.raises(DuplicateExampleError):
            store.heads.commit(refused)
    assert store.heads.get("tags") == head
    merged = change("tags", 1, label="new", remove=[ids["cat"]], relabel={ids["indoor"]: "cat"}, **now)
    assert store.heads.commit(merged).head.task == MULTI_LABEL
    assert store.heads.summary("tags").label_counts == {"cat": 1, "new": 1}
    assert store.examples.support_set(head.id).task == MULTI_LABEL


def test_the_task_changes_only_with_the_whole_support_set(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    assert head.task == SINGLE_LABEL
    now = {"head_id": head.id, "expected_revision": head.revision}
    with pytest.raises(ValueError, match="task"):
        change("pets", 2, task=MULTI_LABEL, **now)
    replaced = store.heads.commit(change("pets", 1, replace_all=True, task=MULTI_LABEL, **now)).head
    assert replaced.task == MULTI_LABEL


def test_an_embedding_stays_as_long_as_one_label_of_its_input(store: Store) -> None:
    both = [NewExample(label, key(1), size_bytes=10) for label in ("cat", "indoor")]
    head = store.heads.commit(change("tags", 1, task=MULTI_LABEL, add=both)).head
    first, second = (row.id for row in store.examples.list("tags").items)
    now = {"head_id": head.id, "expected_revision": head.revision}
    head = store.heads.commit(change("tags", remove=[first], **now)).head
    assert store.embeddings.get(DIGEST, [key(1)])
    store.heads.commit(change("tags", remove=[second], head_id=head.id, expected_revision=head.revision))
    assert not store.embeddings.get(DIGEST, [key(1)])


def test_versions_roll_back_and_are_never_numbered_twice(store: Store) -> None:
    head = store.heads.commit(change("pets", 1)).head
    second = store.heads.commit(change("pets", 2, head_id=head.id, expected_revision=head.revision))
    assert second.version == 2
    assert store.versions.publish("pets", 1).published_version == 1
    assert store.heads.published("pets").number == 1
    with pytest.raises(VersionNotFoundError):
        store.versions.publish("pets", 3)
    third = store.heads.commit(change("pets", 3, head_id=head.id, expected_revision=second.head.revision))
    assert [row.number for row in store.versions.list("pets").items] == [3, 2, 1]
    assert third.head.published_version == 3


def test_deleting_forgets_what_no_other_head_uses(store: Store) -> None:
    first = store.heads.commit(change("one", 1, 2)).head
    store.heads.commit(change("two", 2, 3))
    store.heads.delete("one")
    assert set(store.embeddings.get(DIGEST, [key(n) for n in (1, 2, 3)])) == {key(2), key(3)}
    with pytest.raises(HeadNotFoundError):
        store.heads.get("one")
    again = store.heads.commit(change("one", 1))
    assert again.version == 1
    assert again.head.id != first.id


def test_pruning_spares_embeddings_of_examples(store: Store) -> None:
    store.heads.commit(change("pets", 1))
    for number in range(100, 150):
        store.embeddings.put(DIGEST, {key(number): np.zeros(4, np.float32)})
    store.embeddings.prune(10 * 16)
    assert store.embeddings.get(DIGEST, [key(1)])
    assert store.embeddings.count() <= 11


def test_more_keys_than_a_statement_may_have_variables(store: Store) -> None:
    count = 40_000
    store.embeddings.put(DIGEST, {key(n): np.full(1, n, np.float32) for n in range(count)})
    found = store.embeddings.get(DIGEST, [key(n) for n in range(count + 10)])
    assert len(found) == count
    assert found[key(777)][0] == 777


def test_pages_do_not_move_when_rows_come_between(store: Store) -> None:
    for name in ("a", "c", "e"):
        store.heads.commit(change(name, 1))
    first = store.heads.list(limit=2)
    store.heads.commit(change("b", 1))
    store.heads.commit(change("d", 1))
    second = store.heads.list(first.next_after, limit=2)
    names = [row.head.name for row in (*first.items, *second.items)]
    assert names == ["a", "c", "d", "e"]


@pytest.mark.parametrize("text", ["'; drop table heads; --", "\U0001f408", 'a"b', "x" * 10_000, "%", "é"])
def test_hostile_text_is_kept_as_it_is(store: Store, text: str) -> None:
    store.heads.commit(change(text, 1, label=text))
    assert store.heads.summary(text).label_counts == {text: 1}
    assert [row.label for row in store.examples.list(text, label=text).items] == [text]


def test_a_database_that_is_not_migrated_is_not_ready(database_url: str, tmp_path: Path) -> None:
    store = Store.open(database_url, blob_url(tmp_path))
    with pytest.raises(SchemaError):
        store.check()
    store.migrate()
    store.migrate()
    store.check()
    store.close()


WRITER = """
import sys
from pathlib import Path
from service.store import Store
from tests.service.store.test_store import blob_url, change, url
store = Store.open(url(Path(sys.argv[1])), blob_url(Path(sys.argv[1])))
for i in range(int(sys.argv[2]), 10_000_000):
    store.heads.commit(change(f"h{i}", i, i + 1))
    print(i, flush=True)
"""


def test_what_a_killed_writer_was_told_is_there_and_nothing_half(tmp_path: Path) -> None:
    with Store.open(url(tmp_path), blob_url(tmp_path)) as store:
        store.migrate()
    acknowledged = 0
    for _ in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(acknowledged + 1)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
        )
        assert writer.stdout is not None
        for _ in range(10):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        writer.wait()
        writer.stdout.close()
        database = sqlite3.connect(tmp_path / "headstart.db")
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        whole = database.execute(
            "select h.name from heads h join versions v on v.head_id = h.id join head_files f"
            " on f.head_id = h.id where (select count(*) from examples e where e.head_id = h.id) = 2"
        ).fetchall()
        names = database.execute("select name from heads").fetchall()
        database.close()
        assert sorted(whole) == sorted(names)
        assert f"h{acknowledged}" in {name for (name,) in names}
        # One more may have been committed whose line was never read.
        acknowledged = max(int(name[1:]) for (name,) in names)
