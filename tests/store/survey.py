"""What must be true of a store after any crash: nothing acknowledged is missing, nothing is half there."""

import hashlib
import sqlite3
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select

from service.config import Settings
from service.preparation import prepare
from service.store import Store, tables
from service.store.idempotency import IN_PROGRESS
from tests.store.steps import NAMES, State, state
from training.heads import load_head

Told = dict[str, State | None]


def survey(settings: Settings, known: Told, about: Mapping[str, Any] | None) -> bool:
    """Start again after a crash and look at everything.

    Parameters
    ----------
    known : what was acknowledged of each head; brought up to date.
    about : the step that was begun and not acknowledged, if there is one.

    Returns
    -------
    Whether that step was made.
    """
    _require_integrity(settings)
    prepare(settings)
    with Store.open(settings.resolved_database_url, settings.resolved_blob_url) as store:
        store.check()
        found = {name: state(store.heads.find(name)) for name in NAMES}
        was_made = about is not None and found[about["head"]] != about["was"]
        if about is not None:
            _require_whole_step(about, found[about["head"]])
            is_settled = _was_settled(store, about["key"])
            # To publish what is published already leaves no other trace.
            assert is_settled == was_made or (is_settled and about["step"] == "publish"), about
        for name in NAMES:
            if about is None or name != about["head"]:
                assert found[name] == known.get(name), (name, found[name], known.get(name), about)
            elif not was_made:
                assert known.get(name) == about["was"]
        known.update(found)
        blobs = sum(_require_whole(store, name, here) for name, here in found.items() if here)
        if not settings.resolved_database_url.startswith("sqlite"):
            # Other replicas may be at work, so that the start left what is younger than an hour.
            store.inputs.tidy(timedelta(0))
        assert sum(1 for place in ("inputs", "partial") for _ in store.blobs.entries(place)) == blobs
    return was_made


def _require_integrity(settings: Settings) -> None:
    url = settings.resolved_database_url
    if url.startswith("sqlite"):
        database = sqlite3.connect(url.removeprefix("sqlite:///"))
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert database.execute("pragma foreign_key_check").fetchall() == []
        database.close()


def _require_whole_step(about: Mapping[str, Any], now: State | None) -> None:
    """The step was made as a whole, or not at all."""
    was: State | None = about["was"]
    if now == was:
        return
    if about["step"] == "delete":
        assert now is None, about
    elif was is None:
        assert now is not None
        assert now[1:] == (1, 1, 1), (about, now)
    else:
        assert now is not None
        assert now[0] == was[0], (about, now)
        trains = about["step"] != "publish"
        assert now[1] == was[1] + trains, (about, now)
        assert now[3] == was[3] + trains, (about, now)
        assert not trains or now[2] in (was[2], now[3]), (about, now)


def _was_settled(store: Store, key: str) -> bool:
    """Whether the `Idempotency-Key` of a step says that it was carried out."""
    requests = tables.idempotent_requests
    with store._database.single() as connection:
        row = connection.execute(select(requests.c.state).where(requests.c.key == key)).one_or_none()
    return row is not None and row.state != IN_PROGRESS


def _require_whole(store: Store, name: str, here: State) -> int:
    """The head has all its versions and examples; how many inputs it keeps."""
    head_id, _, published, last = here
    numbers = [row.number for row in store.versions.list(name, limit=1000).items]
    assert numbers == list(range(last, 0, -1)), (name, numbers, here)
    assert published is None or 1 <= published <= last
    assert len(load_head(store.versions.file(head_id, last)).classes) == 2
    examples = store.examples.list(name, limit=1000).items
    digest = store.heads.get(name).extractor_digest
    keys = [example.sha256 for example in examples]
    assert set(store.embeddings.get(digest, keys)) == set(keys)
    kept = store.inputs.of(head_id)
    assert set(kept) == set(keys)
    assert all(hashlib.sha256(read()).hexdigest() == key for key, read in kept.items())
    doomed = select(func.count()).select_from(tables.doomed_blobs)
    with store._database.single() as connection:
        assert connection.execute(doomed).scalar_one() == 0
    return len(kept)
