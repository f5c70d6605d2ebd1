"""What a backup holds: `manifest.json` names every other file of it, with its size and sha256.

    headstart.db             all rows, as a SQLite database, whatever kind the home had
    blobs/KEY                the kept inputs and the files of registered extractors
    extractors/NAME/FILE     the extractors of HEADSTART_EXTRACTORS that were folders

Knows no medium.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from service.backup.errors import BackupDamagedError
from service.store.blobs import KEY

FORMAT = "headstart-backup"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
DATABASE = "headstart.db"
BLOBS = "blobs/"
EXTRACTORS = "extractors/"
MOST_MANIFEST_BYTES = 1 << 30
PLAIN = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
NAME = re.compile(rf"{re.escape(DATABASE)}|{BLOBS}{KEY.pattern}|{EXTRACTORS}{PLAIN}/{PLAIN}")
SHA256 = re.compile(r"[0-9a-f]{64}")
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of a backup as it was written."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Contents:
    """The manifest.

    Attributes
    ----------
    created_at : ISO 8601, when the rows were copied.
    library_version : of the Headstart that wrote it.
    schema : of the database.
    inputs_gone : kept inputs whose examples were removed while the backup was written, and are not in it.
    files : all others, by name.
    """

    created_at: str
    library_version: str
    schema: str
    inputs_gone: int
    files: Mapping[str, File]

    def as_json(self) -> bytes:
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "created_at": self.created_at,
            "library_version": self.library_version,
            "schema": self.schema,
            "inputs_gone": self.inputs_gone,
            "files": {
                name: {"sha256": file.sha256, "size_bytes": file.size_bytes}
                for name, file in sorted(self.files.items())
            },
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, data: bytes) -> "Contents":
        """A manifest from its bytes, of which nothing is believed.

        Raises
        ------
        BackupDamagedError
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BackupDamagedError(f"{MANIFEST} is no JSON: {error}") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise BackupDamagedError(f"{MANIFEST} is not of a backup of Headstart")
        if document.get("format_version") != FORMAT_VERSION:
            raise BackupDamagedError(
                f"the backup has format {document.get('format_version')!r}, this version of Headstart reads"
                f" {FORMAT_VERSION}: use a newer one"
            )
        try:
            return cls(
                created_at=_text(document["created_at"]),
                library_version=_text(document["library_version"]),
                schema=_text(document["schema"]),
                inputs_gone=_count(document["inputs_gone"]),
                files={_name(name): _file(name, value) for name, value in document["files"].items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BackupDamagedError(f"{MANIFEST} is damaged: {error!r}") from error


def digest_of(stream: IO[bytes]) -> File:
    """Size and sha256 of what is left of a stream."""
    digest, size = hashlib.sha256(), 0
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return File(digest.hexdigest(), size)


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is no name of a file of a backup")
    return name


def _file(name: str, value: Mapping[str, Any]) -> File:
    sha256 = _text(value["sha256"])
    if not SHA256.fullmatch(sha256):
        raise ValueError(f"{name} has no sha256")
    return File(sha256, _count(value["size_bytes"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r:.80}")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"expected a whole number, found {value!r:.80}")
    return value
