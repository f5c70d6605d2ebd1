"""Taking a support set, as it is, to another extractor, inside a transaction that the caller opened.

The embeddings of the extractor that it leaves stay, as far as the cache has room for them.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, select, update

from service.store import embeddings, tables
from service.store.caller import Caller
from service.store.changes import Vector
from service.store.database import Database

_examples = tables.examples
_versions = tables.versions

_of_head = _examples.c.head_id == bindparam("head")
KEYS = select(_examples.c.sha256).where(_of_head).distinct()
EXTRACTORS = select(_versions.c.extractor_digest).where(_versions.c.head_id == bindparam("head")).distinct()
MOVE = update(_examples).where(_of_head).values(extractor_digest=bindparam("to"))


def move_examples(
    connection: Connection,
    database: Database,
    caller: Caller,
    head_id: int,
    digest: str,
    given: Mapping[str, Vector],
) -> None:
    """Let every example of a head refer to its embedding by another extractor.

    Parameters
    ----------
    digest : of the extractor to move to.
    given : embeddings by that extractor; those that are stored already may be left out.

    Raises
    ------
    EmbeddingNotFoundError
        An embedding is neither given nor stored.
    """
    keys = connection.execute(KEYS, {"head": head_id}).scalars().all()
    space = embeddings.space(caller.tenant, digest)
    embeddings.ensure(connection, database, space, keys, given)
    connection.execute(MOVE, {"head": head_id, "to": space})


def by_all_extractors(
    connection: Connection, caller: Caller, head_id: int, keys: Iterable[embeddings.Key]
) -> list[embeddings.Key]:
    """The keys, and those of the same inputs by every other extractor that the head was ever trained on."""
    found = list(keys)
    digests = connection.execute(EXTRACTORS, {"head": head_id}).scalars().all() if found else ()
    spaces = [embeddings.space(caller.tenant, digest) for digest in digests]
    return [*found, *((space, sha256) for space in spaces for _, sha256 in found)]
