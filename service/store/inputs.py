"""Kept inputs: the original bytes of examples, as blobs, each with a row that says whose it is.

A blob is written before the row that names it, and deleted after the commit that took its row away and noted
it as doomed. So a crash leaves no row without its blob, and of blobs only what `tidy` deletes at the next
start. Blobs are never shared between heads, and a key is never used twice. Knows no embedding, no format.
"""

import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from service.store import tables
from service.store.blobs import PARTIAL, BlobStore
from service.store.changes import NewInput
from service.store.database import Database
from service.store.embeddings import chunks
from service.store.errors import (
    BlobNotFoundError,
    InputNotKeptError,
    StoreCorruptedError,
    StoreUnavailableError,
)

logger = logging.getLogger("headstart.store")

PREFIX = "inputs/"
ORPHAN_AGE = timedelta(hours=1)  # a blob without a row may be of a request that is still at work
KEYS_PER_PURGE = 1000

_kept = tables.kept_inputs
_doomed = tables.doomed_blobs
_examples = tables.examples

_of_head = _kept.c.head_id == bindparam("head")
_key_in = _kept.c.sha256.in_(bindparam("keys", expanding=True))
_is_example = exists().where(_examples.c.head_id == _kept.c.head_id, _examples.c.sha256 == _kept.c.sha256)
OF_HEAD = select(_kept.c.sha256).where(_of_head)
BLOB = select(_kept.c.blob).where(_of_head, _kept.c.sha256 == bindparam("sha256"))
EXISTING = select(_kept.c.sha256).where(_of_head, _key_in)
WITH_ROW = select(_kept.c.blob).where(_kept.c.blob.in_(bindparam("blobs", expanding=True)))
SOME_DOOMED = select(_doomed.c.key).order_by(_doomed.c.created_at).limit(KEYS_PER_PURGE)
DELETE_DOOMED = delete(_doomed).where(_doomed.c.key.in_(bindparam("blobs", expanding=True)))
_rows = select(_kept.c.blob, bindparam("now", type_=_doomed.c.created_at.type)).where(_of_head)
DOOM_ALL = insert(_doomed).from_select(["key", "created_at"], _rows)
DOOM_UNUSED = insert(_doomed).from_select(["key", "created_at"], _rows.where(_key_in, ~_is_example))
DELETE_ALL = delete(_kept).where(_of_head)
DELETE_UNUSED = delete(_kept).where(_of_head, _key_in, ~_is_example)


class Inputs:
    """The kept inputs of all heads; safe to share between threads."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._writers = database.blob_writers

    def write(self, data: bytes) -> NewInput:
        """Write the bytes of an input, for a change that is then to name them.

        Raises
        ------
        StoreUnavailableError
            The disk is full, or the blobs cannot be reached.
        """
        name = uuid.uuid4().hex
        key = f"{PREFIX}{name[:2]}/{name}"
        try:
            self._writers.join()
        except OSError as error:
            raise StoreUnavailableError("inputs cannot be written now", error) from error
        self._blobs.put(key, data)
        return NewInput(key, len(data))

    def discard(self, written: Sequence[NewInput]) -> None:
        """Delete what was written and is in no change that was committed, or may have been.

        What cannot be deleted now is found at a later start.
        """
        try:
            self._blobs.delete([item.blob for item in written])
        except StoreUnavailableError as error:
            logger.warning("%d inputs without an example are not deleted yet: %s", len(written), error)

    def of(self, head_id: int) -> Mapping[str, Callable[[], bytes]]:
        """What reads each kept input of a head, by its sha256. Reading fails as `read` does."""
        with self._database.single() as connection:
            keys = connection.execute(OF_HEAD, {"head": head_id}).scalars().all()
        return {key: partial(self.read, head_id, key) for key in keys}

    def read(self, head_id: int, sha256: str) -> bytes:
        """The bytes of a kept input.

        Raises
        ------
        InputNotKeptError
            The head keeps no input with this sha256, or none any more.
        StoreCorruptedError
            The bytes are missing, or are not those that were kept.
        StoreUnavailableError
        """
        blob = self._blob(head_id, sha256)
        try:
            data = self._blobs.get(blob)
        except BlobNotFoundError as error:
            if self._blob(head_id, sha256) == blob:
                raise StoreCorruptedError(f"the kept input {sha256} is missing", error) from error
            return self.read(head_id, sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreCorruptedError(f"the kept input {sha256} is damaged", blob)
        return data

    def purge(self) -> None:
        """Delete the blobs that committed changes have doomed, here or in another process.

        What cannot be deleted now stays doomed, and is deleted by the next purge.
        """
        try:
            while keys := self._some_doomed():
                self._blobs.delete(keys)
                with self._database.write(durable=False) as connection:
                    for chunk in chunks(keys):
                        connection.execute(DELETE_DOOMED, {"blobs": chunk})
        except StoreUnavailableError as error:
            logger.warning("inputs that were removed are not deleted yet: %s", error)

    def tidy(self, orphan_age: timedelta = ORPHAN_AGE) -> int:
        """Finish what a crash left: doomed blobs, and blobs with no row.

        Lists all kept inputs once; for the start of a server.

        Parameters
        ----------
        orphan_age : blobs without a row are younger while a request is at work that wrote them. Where no
            other process can be at work, those of any age go.

        Returns
        -------
        How many blobs without a row were deleted.

        Raises
        ------
        StoreUnavailableError
        """
        self.purge()
        try:
            with self._writers.alone() as is_alone:
                return self._delete_orphans(timedelta(0) if is_alone else orphan_age)
        except OSError as error:
            raise StoreUnavailableError("inputs cannot be tidied now", error) from error

    def _delete_orphans(self, age: timedelta) -> int:
        before = datetime.now(UTC) - age
        old = [
            entry.key
            for prefix in (PREFIX, PARTIAL)
            for entry in self._blobs.entries(prefix)
            if entry.modified_at <= before
        ]
        orphans = [key for chunk in chunks(old) for key in self._without_row(chunk)]
        self._blobs.delete(orphans)
        return len(orphans)

    def _blob(self, head_id: int, sha256: str) -> str:
        with self._database.single() as connection:
            found = connection.execute(BLOB, {"head": head_id, "sha256": sha256}).scalar_one_or_none()
        if found is None:
            raise InputNotKeptError(sha256)
        return str(found)

    def _some_doomed(self) -> list[str]:
        with self._database.single() as connection:
            return list(connection.execute(SOME_DOOMED).scalars())

    def _without_row(self, keys: Sequence[str]) -> list[str]:
        with self._database.single() as connection:
            known = set(connection.execute(WITH_ROW, {"blobs": keys}).scalars())
        return [key for key in keys if key not in known]


def keep(connection: Connection, head_id: int, inputs: Mapping[str, NewInput], now: datetime) -> int:
    """Write the rows of new inputs; those that the head keeps already are doomed, which are counted."""
    known: set[str] = set()
    for chunk in chunks(list(inputs)):
        known.update(connection.execute(EXISTING, {"head": head_id, "keys": chunk}).scalars())
    rows = [
        {
            "head_id": head_id,
            "sha256": key,
            "blob": item.blob,
            "size_bytes": item.size_bytes,
            "created_at": now,
        }
        for key, item in inputs.items()
        if key not in known
    ]
    doomed = [{"key": inputs[key].blob, "created_at": now} for key in known]
    if rows:
        connection.execute(insert(_kept), rows)
    if doomed:
        connection.execute(insert(_doomed), doomed)
    return len(doomed)


def doom_all(connection: Connection, head_id: int, now: datetime) -> int:
    """Doom every kept input of a head; how many there were."""
    doomed = connection.execute(DOOM_ALL, {"head": head_id, "now": now}).rowcount
    connection.execute(DELETE_ALL, {"head": head_id})
    return doomed


def doom_unused(connection: Connection, head_id: int, keys: Sequence[str], now: datetime) -> int:
    """Doom those kept inputs, by sha256, of which no label is left in the head; how many there were."""
    doomed = 0
    for chunk in chunks(sorted(set(keys))):
        values = {"head": head_id, "keys": chunk}
        doomed += connection.execute(DOOM_UNUSED, {**values, "now": now}).rowcount
        connection.execute(DELETE_UNUSED, values)
    return doomed
