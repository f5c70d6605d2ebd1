"""The cache of embeddings, keyed by (space, sha256 of the input). Knows no head and no label.

A space is what one tenant has by one extractor: whether an input is cached tells a tenant nothing of the
inputs of another. An embedding stays as long as an example refers to it; the others are kept as far as there
is room.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, delete, exists, func, select

from service.store import tables
from service.store.caller import DEFAULT_TENANT, Caller
from service.store.changes import Vector
from service.store.database import Database
from service.store.errors import EmbeddingNotFoundError

Key = tuple[str, str]  # space, sha256 of the input

VECTOR_DTYPE = np.dtype("<f4")  # little-endian float32, whatever the machine
KEYS_PER_QUERY = 500  # below the number of variables any database takes in one statement
KEYS_PER_PRUNING = 500  # rows one pruning transaction deletes at most, so that writers get their turn

_embeddings = tables.embeddings
_examples = tables.examples

_key = _embeddings.c.sha256
_age = _embeddings.c.created_at
_key_in = _key.in_(bindparam("keys", expanding=True))
_of_extractor = _embeddings.c.extractor_digest == bindparam("digest")
_referenced = exists().where(
    _examples.c.extractor_digest == _embeddings.c.extractor_digest, _examples.c.sha256 == _embeddings.c.sha256
)
GET = select(_key, _embeddings.c.vector).where(_of_extractor, _key_in)
GET_ONE = select(_key, _embeddings.c.vector).where(_of_extractor, _key == bindparam("key"))
EXISTING = select(_key).where(_of_extractor, _key_in)
# PostgreSQL holds the rows until the commit, so that no other transaction forgets them meanwhile.
HOLD = select(_key).where(_of_extractor, _key_in).with_for_update(read=True, key_share=True)
LOCK = select(_key).where(_of_extractor, _key_in).order_by(_key).with_for_update()
FORGET = delete(_embeddings).where(_of_extractor, _key_in, ~_referenced)
SOME_UNREFERENCED = select(_key).where(_of_extractor, ~_referenced).order_by(_key).limit(KEYS_PER_PRUNING)
TOTAL_BYTES = select(func.coalesce(func.sum(_embeddings.c.size_bytes), 0))
OLDEST_UNREFERENCED = (
    select(
        _embeddings.c.extractor_digest,
        _embeddings.c.sha256,
        _embeddings.c.size_bytes,
        _embeddings.c.created_at,
    )
    .where(_age >= bindparam("since"), ~_referenced)
    .order_by(_age)
    .limit(KEYS_PER_PRUNING)
    .with_for_update(skip_locked=True)
)
TENANTS = select(tables.tenants.c.name)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Embeddings:
    """The stored embeddings of a tenant by all extractors; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def space(self, digest: str) -> str:
        """Where the tenant's embeddings by an extractor are."""
        return space(self._caller.tenant, digest)

    def get(self, digest: str, keys: Sequence[str]) -> dict[str, Vector]:
        """The embeddings that are stored, of those asked for.

        Parameters
        ----------
        digest : digest of the extractor.
        keys : sha256 of the inputs, any number of them.

        Returns
        -------
        float32 vectors, shape (dim,), read-only, by key.
        """
        if len(keys) == 1:
            rows = self._database.quick(GET_ONE, {"digest": self.space(digest), "key": keys[0]})
            return {key: np.frombuffer(vector, VECTOR_DTYPE) for key, vector in rows}
        found: dict[str, Vector] = {}
        with self._database.single() as connection:
            for chunk in chunks(keys):
                values = {"digest": self.space(digest), "keys": chunk}
                for key, vector in connection.execute(GET, values):
                    found[key] = np.frombuffer(vector, VECTOR_DTYPE)
        return found

    def existing(self, space: str, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are stored in a space, of whatever tenant."""
        found: set[str] = set()
        with self._database.single() as connection:
            for chunk in chunks(keys):
                found.update(connection.execute(EXISTING, {"digest": space, "keys": chunk}).scalars())
        return found

    def put(self, digest: str, vectors: Mapping[str, Vector]) -> None:
        """Store embeddings; those that are there already stay as they are.

        Raises
        ------
        ValueError
            A vector is not float32 of shape (dim,).
        """
        self.put_into(self.space(digest), vectors)

    def put_into(self, space: str, vectors: Mapping[str, Vector]) -> None:
        """As `put`, into a space of whatever tenant."""
        rows = _rows(space, vectors, datetime.now(UTC))
        if rows:
            with self._database.write(durable=False) as connection:
                connection.execute(self._database.insert_or_ignore(_embeddings), rows)

    def count(self) -> int:
        with self._database.single() as connection:
            return connection.execute(select(func.count()).select_from(_embeddings)).scalar_one()

    def size_bytes(self) -> int:
        """Bytes of all stored vectors; the database adds some 10 % for keys and indexes."""
        with self._database.single() as connection:
            return int(connection.execute(TOTAL_BYTES).scalar_one())

    def prune(self, max_bytes: int) -> int:
        """Drop the oldest embeddings that no example refers to, until those left take `max_bytes` at most.

        Cheap while all embeddings together take no more than that. It writes in small transactions,
        so that others get their turn; two prunings at once may drop somewhat more than needed.

        Returns
        -------
        How many embeddings were dropped.
        """
        if self.size_bytes() <= max_bytes:
            return 0
        with self._database.single() as connection:
            excess_bytes = int(connection.execute(TOTAL_BYTES.where(~_referenced)).scalar_one()) - max_bytes
        dropped, since = 0, BEGINNING
        while excess_bytes > 0:
            victims = self._prune_some(excess_bytes, since)
            if not victims:
                break
            dropped += len(victims)
            excess_bytes -= sum(victim.size_bytes for victim in victims)
            since = victims[-1].created_at
        return dropped

    def drop(self, digest: str) -> int:
        """Drop the embeddings of an extractor that no example of any tenant refers to; how many they were.

        It writes in small transactions, so that others get their turn.
        """
        with self._database.single() as connection:
            tenants = connection.execute(TENANTS).scalars().all()
        return sum(self._drop(space(tenant, digest)) for tenant in tenants)

    def _drop(self, space: str) -> int:
        dropped = 0
        while True:
            with self._database.write(durable=False) as connection:
                keys = connection.execute(SOME_UNREFERENCED, {"digest": space}).scalars().all()
                forget(connection, [(space, key) for key in keys])
            dropped += len(keys)
            if not keys:
                return dropped

    def _prune_some(self, excess_bytes: int, since: datetime) -> list[Any]:
        with self._database.write(durable=False) as connection:
            victims: list[Any] = []
            for row in connection.execute(OLDEST_UNREFERENCED, {"since": since}).all():
                if excess_bytes <= 0:
                    break
                victims.append(row)
                excess_bytes -= row.size_bytes
            for digest in {victim.extractor_digest for victim in victims}:
                keys = [victim.sha256 for victim in victims if victim.extractor_digest == digest]
                connection.execute(FORGET, {"digest": digest, "keys": keys})
        return victims


def space(tenant: str, digest: str) -> str:
    """Where the embeddings of a tenant by an extractor are: apart from those of every other tenant.

    For the default tenant it is the digest itself, as it was before there were tenants.
    """
    if tenant == DEFAULT_TENANT:
        return digest
    return hashlib.sha256(f"{digest}\0{tenant}".encode()).hexdigest()


def ensure(
    connection: Connection, database: Database, digest: str, keys: Sequence[str], given: Mapping[str, Vector]
) -> None:
    """See to it that every key has its embedding, in this transaction and until its end.

    All that are `given` are stored. One that is stored but was forgotten by another transaction while
    this one looked is stored again.

    Raises
    ------
    EmbeddingNotFoundError
        An embedding is neither given nor stored.
    """
    now = datetime.now(UTC)
    to_store = given
    while True:
        for chunk in chunks(sorted(to_store)):
            rows = _rows(digest, {key: to_store[key] for key in chunk}, now)
            connection.execute(database.insert_or_ignore(_embeddings), rows)
        held: set[str] = set()
        for chunk in chunks(keys):
            held.update(connection.execute(HOLD, {"digest": digest, "keys": chunk}).scalars())
        missing = [key for key in keys if key not in held]
        if not missing:
            return
        unknown = [key for key in missing if key not in given]
        if unknown:
            raise EmbeddingNotFoundError(unknown)
        to_store = {key: given[key] for key in missing}


def forget(connection: Connection, keys: Iterable[Key]) -> None:
    """Delete those embeddings that no example refers to any more."""
    keys_of: dict[str, set[str]] = {}
    for digest, key in keys:
        keys_of.setdefault(digest, set()).add(key)
    for digest in sorted(keys_of):
        for chunk in chunks(sorted(keys_of[digest])):
            # Two statements: on PostgreSQL the second then sees what was committed while the first waited.
            connection.execute(LOCK, {"digest": digest, "keys": chunk})
            connection.execute(FORGET, {"digest": digest, "keys": chunk})


def _rows(digest: str, vectors: Mapping[str, Vector], now: datetime) -> list[dict[str, Any]]:
    """Rows in the order of their keys: transactions that store the same ones then cannot deadlock."""
    rows = []
    for key in sorted(vectors):
        vector = vectors[key]
        if vector.ndim != 1 or vector.dtype != np.float32:
            raise ValueError(f"expected a float32 vector of shape (dim,), got {vector.dtype} {vector.shape}")
        data = vector.astype(VECTOR_DTYPE, copy=False).tobytes()
        rows.append(
            {
                "extractor_digest": digest,
                "sha256": key,
                "vector": data,
                "size_bytes": len(data),
                "created_at": now,
            }
        )
    return rows


def chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """The keys in parts that fit into one statement."""
    for start in range(0, len(keys), KEYS_PER_QUERY):
        yield keys[start : start + KEYS_PER_QUERY]
