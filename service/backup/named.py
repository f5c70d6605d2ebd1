"""Which blobs the rows of a copy name, and how a copy does without some of them. Knows no medium.

The copy may be at any schema so far, hence the plain SQL.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Named:
    """The blobs that rows name.

    Attributes
    ----------
    inputs : sha256 of each kept input, by the key of its blob.
    extractors : sha256 of each file of a registered extractor, by the key of its blob.
    """

    inputs: dict[str, str]
    extractors: dict[str, str]

    @property
    def blobs(self) -> dict[str, str]:
        return self.inputs | self.extractors


def named_by(copy: Path) -> Named:
    """What the rows of a copy name."""
    with _opened(copy) as connection:
        there = _tables(connection)
        inputs = connection.execute("SELECT blob, sha256 FROM kept_inputs") if "kept_inputs" in there else ()
        rows = connection.execute("SELECT blobs, manifest FROM extractors") if "extractors" in there else ()
        return Named(
            dict(inputs),
            {
                f"{folder}/{name}": sha256
                for folder, manifest in rows
                for name, sha256 in json.loads(manifest)["files"].items()
            },
        )


def without(copy: Path, inputs: Collection[str]) -> None:
    """Take the rows of kept inputs, by the keys of their blobs, and all doomed ones out of a copy.

    The examples stay, as those of a head that keeps nothing.
    """
    with _opened(copy) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("BEGIN IMMEDIATE")
        if inputs:
            connection.executemany("DELETE FROM kept_inputs WHERE blob = ?", [(key,) for key in inputs])
        if "doomed_blobs" in _tables(connection):
            connection.execute("DELETE FROM doomed_blobs")
        connection.execute("COMMIT")


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@contextmanager
def _opened(copy: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        yield connection
