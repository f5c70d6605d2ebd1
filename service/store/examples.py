"""The labelled examples of heads, and support sets. Reads only; `commit` writes them."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from service.store import named, tables
from service.store.caller import Caller
from service.store.database import Database
from service.store.errors import ExampleNotFoundError, HeadNotFoundError
from service.store.paging import page_of, page_size
from service.store.records import ExampleRow, Page, SupportSet
from service.store.text import is_storable

LARGEST_SEQ = 2**63 - 1

_heads = tables.heads
_examples = tables.examples
_kept = tables.kept_inputs

COLUMNS = (
    _examples.c.seq,
    _examples.c.id,
    _examples.c.label,
    _examples.c.sha256,
    _examples.c.source_id,
    _examples.c.size_bytes,
    _examples.c.created_at,
    _kept.c.blob.is_not(None).label("kept"),
)
_with_input = _examples.outerjoin(
    _kept, (_kept.c.head_id == _examples.c.head_id) & (_kept.c.sha256 == _examples.c.sha256)
)
LIST = (
    select(*COLUMNS)
    .select_from(_with_input)
    .where(_examples.c.head_id == bindparam("head"), _examples.c.seq > bindparam("after"))
    .order_by(_examples.c.seq)
    .limit(bindparam("most"))
)
LIST_LABEL = LIST.where(_examples.c.label == bindparam("wanted"))
ONE = (
    select(*COLUMNS)
    .select_from(_with_input)
    .where(_examples.c.head_id == bindparam("head"), _examples.c.id == bindparam("wanted"))
)
HEAD = select(
    _heads.c.id, _heads.c.revision, _heads.c.extractor_name, _heads.c.extractor_digest, _heads.c.task
).where(_heads.c.id == bindparam("head"))
SUPPORT_SET = (
    select(_examples.c.id, _examples.c.label, _examples.c.sha256)
    .where(_examples.c.head_id == bindparam("head"))
    .order_by(_examples.c.seq)
)


class Examples:
    """The examples of the heads of a tenant; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def list(
        self, head: str, after: int | None = None, limit: int = 100, label: str | None = None
    ) -> Page[ExampleRow, int]:
        """The examples of a head in the order they came, those of one label if it is given.

        Parameters
        ----------
        after : `seq` of the last example seen.

        Raises
        ------
        HeadNotFoundError
        """
        values = {"after": max(0, min(after or 0, LARGEST_SEQ)), "most": page_size(limit) + 1}
        with self._database.snapshot() as connection:
            values["head"] = named.head_id(connection, self._caller, head)
            rows = [] if label is not None and not is_storable(label) else _rows(connection, values, label)
        return page_of(rows, limit, lambda example: example.seq)

    def get(self, head: str, example_id: str) -> ExampleRow:
        """One example of a head.

        Raises
        ------
        HeadNotFoundError, ExampleNotFoundError
        """
        with self._database.snapshot() as connection:
            head_id = named.head_id(connection, self._caller, head)
            row = None
            if is_storable(example_id):
                row = connection.execute(ONE, {"head": head_id, "wanted": example_id}).one_or_none()
        if row is None:
            raise ExampleNotFoundError(head, [example_id])
        return ExampleRow(**row._mapping)

    def support_set(self, head_id: int) -> SupportSet:
        """All examples of a head and its revision, of one moment.

        Their embeddings are all stored at that moment; those of examples removed since may be gone
        when they are asked for, and a commit at this revision is then refused.

        Raises
        ------
        HeadNotFoundError
        """
        with self._database.snapshot() as connection:
            head = connection.execute(HEAD, {"head": head_id}).one_or_none()
            rows = connection.execute(SUPPORT_SET, {"head": head_id}).all()
        if head is None:
            raise HeadNotFoundError(head_id)
        ids, labels, keys = zip(*rows, strict=True) if rows else ((), (), ())
        return SupportSet(
            head.id, head.revision, head.extractor_name, head.extractor_digest, head.task, ids, labels, keys
        )


def _rows(connection: Connection, values: dict[str, int], label: str | None) -> Sequence[ExampleRow]:
    if label is None:
        found = connection.execute(LIST, values)
    else:
        found = connection.execute(LIST_LABEL, {**values, "wanted": label})
    return [ExampleRow(**row._mapping) for row in found]
