"""Which versions of many heads are published: one query, and one short text that says it all.

Comparing texts is far cheaper than a row for each head, and equal texts are equal states: ids are never given
twice, versions never change. Knows no training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, bindparam, cast, func, or_, select

from service.store import tables
from service.store.caller import Caller
from service.store.database import Database
from service.store.jsontext import to_json
from service.store.named import OF_TENANT
from service.store.records import ServedHead

LAST_CODE_POINT = "\U0010ffff"
NAMES, MOST = "names", "most"  # parameters: a JSON list of strings, and a number
MOST_KEPT = 16  # statements

_heads = tables.heads


@dataclass(frozen=True)
class Served:
    """Heads and the version of each that is published, by name.

    `text` has a line for each head: id, version (0 for none) and name. Compare it to know whether anything
    has changed since it was read.
    """

    text: str

    @cached_property
    def heads(self) -> tuple[ServedHead, ...]:
        lines = (line.split(" ", 2) for line in self.text.splitlines())
        return tuple(ServedHead(name, int(head_id), int(number) or None) for head_id, number, name in lines)


def served_query(
    database: Database, caller: Caller, names: Sequence[str], prefixes: Sequence[str], most: int
) -> tuple[Select[str], dict[str, Any]]:
    """The statement of which the answer is the text of `Served`, and its parameters.

    Parameters
    ----------
    prefixes : beginnings of names; a head that only these name counts if it has a published version.
    most : heads that are read at most; the last by name are left out.
    """
    values: dict[str, Any] = {"tenant": caller.tenant, NAMES: to_json(list(names)), MOST: most}
    for place, prefix in enumerate(prefixes):
        # Names are ordered by code point, so that those with one prefix follow each other.
        values |= {f"first{place}": prefix, f"behind{place}": prefix + LAST_CODE_POINT}
    return _statement(database, len(prefixes)), values


@lru_cache(MOST_KEPT)
def _statement(database: Database, prefixes: int) -> Select[str]:
    """Made once for each number of prefixes: to make it takes longer than to run it."""
    asked: list[ColumnElement[bool]] = [_heads.c.name.in_(database.items_of(NAMES))]
    if prefixes:
        name, is_published = _heads.c.name, _heads.c.published_version.is_not(None)
        begins = [
            (name >= bindparam(f"first{place}")) & (name < bindparam(f"behind{place}"))
            for place in range(prefixes)
        ]
        asked.append(or_(*begins) & is_published)
    rows = (
        select(_heads.c.name, _heads.c.id, _heads.c.published_version)
        .where(OF_TENANT, or_(*asked))
        .order_by(_heads.c.name)
        .limit(bindparam(MOST))
        .subquery()
    )
    id, number = rows.c.id, func.coalesce(rows.c.published_version, 0)
    line = cast(id, Text) + " " + cast(number, Text) + " " + cast(rows.c.name, Text)
    return select(func.coalesce(func.aggregate_strings(line, "\n"), ""))
