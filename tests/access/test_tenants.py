"""A store is opened for a caller: what belongs to another tenant is not there, whatever its name."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.store import (
    Caller,
    HeadNotFoundError,
    JobNotFoundError,
    Limits,
    QuotaExceededError,
    RevisionConflictError,
    Store,
    TenantExistsError,
    TenantNameError,
    TenantNotFoundError,
    embeddings,
)
from tests.service.store.test_store import DIGEST, blob_url, change, key, url

STORE = Path(embeddings.__file__).parent


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(url(tmp_path), blob_url(tmp_path))
    store.migrate()
    store.tenants.create("theirs", Limits())
    yield store
    store.close()


@pytest.fixture
def theirs(ours: Store) -> Store:
    return ours.of(Caller(tenant="theirs", actor="key 1", request_id="r1"))


def test_a_name_is_unique_within_its_tenant(ours: Store, theirs: Store) -> None:
    first = ours.heads.commit(change("pets", 1)).head
    second = theirs.heads.commit(change("pets", 2, label="bird")).head
    assert first.id != second.id
    assert ours.heads.summary("pets").label_counts == {"cat": 1}
    assert theirs.heads.summary("pets").label_counts == {"bird": 1}
    theirs.heads.delete("pets")
    assert ours.heads.get("pets") == first


def test_nothing_of_another_tenant_is_there(ours: Store, theirs: Store) -> None:
    head = ours.heads.commit(change("pets", 1)).head
    (example,) = ours.examples.list("pets").items
    job = ours.jobs.create("pets", "finetune", {})
    for ask in (
        lambda: theirs.heads.get("pets"),
        lambda: theirs.heads.summary("pets"),
        lambda: theirs.heads.published("pets"),
        lambda: theirs.heads.delete("pets"),
        lambda: theirs.examples.list("pets"),
        lambda: theirs.examples.get("pets", example.id),
        lambda: theirs.versions.list("pets"),
        lambda: theirs.versions.get("pets", 1),
        lambda: theirs.versions.publish("pets", 1),
        lambda: theirs.jobs.create("pets", "finetune", {}),
        lambda: theirs.jobs.list(head="pets"),
    ):
        with pytest.raises(HeadNotFoundError):
            ask()
    for about in (theirs.jobs.get, theirs.jobs.cancel):
        with pytest.raises(JobNotFoundError):
            about(job.id)
    assert theirs.heads.list().items == theirs.jobs.list().items == ()
    assert ours.heads.get("pets") == head
    assert ours.jobs.get(job.id) == job


def test_a_change_that_was_planned_for_another_tenant_is_refused(ours: Store, theirs: Store) -> None:
    head = ours.heads.commit(change("pets", 1)).head
    with pytest.raises(RevisionConflictError):
        theirs.heads.commit(change("pets", 2, head_id=head.id, expected_revision=head.revision))
    assert ours.heads.get("pets") == head


def test_the_cache_of_a_tenant_does_not_tell_what_another_has_embedded(ours: Store, theirs: Store) -> None:
    vector = np.zeros(4, np.float32)
    ours.embeddings.put(DIGEST, {key(1): vector})
    ours.heads.commit(change("pets", 2))
    assert theirs.embeddings.get(DIGEST, [key(1), key(2)]) == {}
    theirs.embeddings.put(DIGEST, {key(1): vector})
    assert set(theirs.embeddings.get(DIGEST, [key(1)])) == {key(1)}
    assert theirs.embeddings.drop(DIGEST) == 2
    assert set(ours.embeddings.get(DIGEST, [key(1), key(2)])) == {key(2)}


def test_deleting_forgets_the_embeddings_of_the_tenant_alone(ours: Store, theirs: Store) -> None:
    ours.heads.commit(change("pets", 1))
    theirs.heads.commit(change("pets", 1))
    theirs.heads.delete("pets")
    assert theirs.embeddings.get(DIGEST, [key(1)]) == {}
    assert set(ours.embeddings.get(DIGEST, [key(1)])) == {key(1)}


def test_only_one_module_looks_for_a_head_by_its_name() -> None:
    """A statement that names a head without its tenant would find that of another."""
    by_name = re.compile(r"heads\.c\.name\s*(==|\.in_)")
    found = {path.name: len(by_name.findall(path.read_text())) for path in STORE.glob("*.py")}
    assert {name: count for name, count in found.items() if count} == {
        "named.py": 1,
        "commit.py": 1,
        "served.py": 1,
    }
    assert ".where(OF_TENANT, or_(*asked))" in (STORE / "served.py").read_text()
    assert (
        "_heads.c.tenant == caller.tenant,\n        _heads.c.name == change.head"
        in (STORE / "commit.py").read_text()
    )


def test_a_quota_is_a_limit_of_the_tenant_and_a_refused_change_leaves_nothing(
    ours: Store, theirs: Store
) -> None:
    theirs.tenants.limit("theirs", Limits(heads=1, examples=2))
    head = theirs.heads.commit(change("pets", 1, 2)).head
    with pytest.raises(QuotaExceededError, match="2 heads, and 1 are"):
        theirs.heads.commit(change("more"))
    with pytest.raises(QuotaExceededError, match="3 examples, and 2 are"):
        theirs.heads.commit(change("pets", 3, head_id=head.id, expected_revision=head.revision))
    assert theirs.heads.get("pets") == head
    assert theirs.embeddings.get(DIGEST, [key(3)]) == {}
    ours.heads.commit(change("one", 1, 2, 3))
    theirs.tenants.limit("theirs", Limits(bytes=1))
    now = {"head_id": head.id, "expected_revision": head.revision}
    with pytest.raises(QuotaExceededError, match="bytes, and 1 are"):
        theirs.heads.commit(change("pets", 3, **now))
    (example, _) = theirs.examples.list("pets").items
    theirs.heads.commit(change("pets", remove=[example.id], version=None, **now))
    usage = {row.name: row.usage for row in ours.tenants.list()}
    assert (usage["default"].heads, usage["default"].examples) == (1, 3)
    assert (usage["theirs"].heads, usage["theirs"].examples) == (1, 1)


def test_tenants_have_names_of_their_own(ours: Store) -> None:
    with pytest.raises(TenantExistsError):
        ours.tenants.create("default", Limits())
    with pytest.raises(TenantNotFoundError):
        ours.of(Caller(tenant="nobody")).heads.commit(change("pets", 1))
    for name in ("", "a b", "-a", "a" * 129, "é", "a\n"):
        with pytest.raises(TenantNameError):
            ours.tenants.create(name, Limits())


def test_every_change_is_in_the_audit_log_and_what_was_undone_is_not(ours: Store, theirs: Store) -> None:
    head = theirs.heads.commit(change("pets", 1)).head
    with pytest.raises(HeadNotFoundError):
        theirs.heads.delete("nobody")
    theirs.versions.publish("pets", 1)
    theirs.jobs.create("pets", "finetune", {})
    theirs.heads.commit(change("pets", 2, head_id=head.id, expected_revision=head.revision))
    theirs.heads.delete("pets")
    theirs.audit.refused("DELETE /v1/heads/{name}", "nobody", "head_not_found")
    told = [(event.action, event.target, event.outcome) for event in theirs.audit.list().items]
    assert told == [
        ("DELETE /v1/heads/{name}", "nobody", "head_not_found"),
        ("head.delete", "pets", "ok"),
        ("head.change", "pets", "ok"),
        ("job.create", "pets", "ok"),
        ("version.publish", "pets", "ok"),
        ("head.create", "pets", "ok"),
    ]
    newest = theirs.audit.list(limit=1).items[0]
    assert (newest.tenant, newest.actor, newest.request_id) == ("theirs", "key 1", "r1")
    assert [event.action for event in ours.audit.list().items] == ["tenant.create"]
    assert len(ours.audit.list(all_tenants=True).items) == 7
