"""A zip archive in memory into its files; nothing is ever written to disk.

Knows paths and sizes. A path only names: it opens no file. Does not know what the files hold.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from service.errors import ApiError
from service.ingest.batch import input_too_large

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
# gzip, 7z, rar, xz, zstd, bzip2
ARCHIVE_MAGICS = (
    *ZIP_MAGICS,
    *(b"\x1f\x8b\x08", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\xfd7zXZ\x00"),
    *(b"\x28\xb5\x2f\xfd", b"BZh"),
)
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
ENCRYPTED_FLAG = 0x1
UTF8_FLAG = 0x800

# A directory entry for each input, another for its `__MACOSX` shadow, and some folders.
ENTRIES_PER_INPUT = 2
SPARE_ENTRIES = 1000
# An entry is 46 bytes plus a path and a few dozen bytes of extra fields. zipfile reads the whole
# directory into objects, and needs quadratic time for long extra fields, so its size is limited.
ENTRY_SIGNATURE = b"PK\x01\x02"
DIRECTORY_BYTES_PER_ENTRY = 1024
# zipfile looks for the end record in this many bytes, 22 and the longest comment.
END_SEARCH_BYTES = 22 + (1 << 16)

MAX_REASON_CHARS = 200

SKIPPED_FOLDERS = frozenset({"__MACOSX"})
SKIPPED_FILES = frozenset({"thumbs.db", "desktop.ini"})

# What zipfile and zlib raise for archives that are damaged or use what they do not read.
DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


@dataclass(frozen=True)
class Entry:
    """One file of an archive: its bytes, or what is wrong with it; and what inflating it cost."""

    path: str
    folder: str | None
    unpacked_bytes: int
    content: bytes | ApiError = field(repr=False)


@dataclass(frozen=True)
class Allowance:
    """What one archive may still add to its request."""

    entries: int
    entry_bytes: int
    total_bytes: int


def is_zip(data: bytes) -> bool:
    """Whether bytes are a zip archive, by their first four."""
    return data.startswith(ZIP_MAGICS)


def unpack(data: bytes, allowance: Allowance) -> tuple[Entry, ...]:
    """The files of an archive, in its order. Blocking: run it off the event loop.

    Folders, dot files, `__MACOSX`, `Thumbs.db` and `desktop.ini` are left out. Sizes are counted while
    inflating, for all entries together, so neither a lying header nor overlapping entries
    (D. Fifield, "A better zip bomb", WOOT 2019) unpack to more than `allowance.total_bytes`.

    Raises
    ------
    ApiError
        422 `invalid_archive`: damaged, encrypted, or another compression than deflate;
        413 `too_many_inputs`; 413 `archive_too_large`.
    """
    try:
        return tuple(_entries(data, allowance))
    except DAMAGES as error:
        reason = str(error)[:MAX_REASON_CHARS]  # it may quote a file name of 64 KB
        raise invalid_archive(f"the zip archive cannot be read: {reason}") from None


def invalid_archive(message: str) -> ApiError:
    return ApiError(422, "invalid_archive", message)


def _too_many_files() -> ApiError:
    message = "the archive has more files than a request can have inputs (HEADSTART_MAX_INPUTS)"
    return ApiError(413, "too_many_inputs", message)


def _entries(data: bytes, allowance: Allowance) -> Iterator[Entry]:
    total = 0
    with _open(data, allowance.entries) as archive:
        files = [(info, path) for info in archive.infolist() if (path := _clean_path(info)) is not None]
        if len(files) > allowance.entries:
            raise _too_many_files()
        if sum(info.compress_size for info in archive.infolist()) > len(data):
            raise invalid_archive("the files of the zip archive overlap")
        for info, path in files:
            left = allowance.total_bytes - total
            content = _inflate(archive, info, min(allowance.entry_bytes, left))
            total += len(content)
            if total > allowance.total_bytes:
                message = "the archives unpack to more than one body may have (HEADSTART_MAX_BODY_BYTES)"
                raise ApiError(413, "archive_too_large", message)
            folder = path.rpartition("/")[0].rpartition("/")[2] or None
            yield Entry(path, folder, len(content), _checked(content, allowance.entry_bytes))


def _open(data: bytes, max_inputs: int) -> zipfile.ZipFile:
    max_entries = ENTRIES_PER_INPUT * max_inputs + SPARE_ENTRIES
    entries = data.count(ENTRY_SIGNATURE)
    if entries > max_entries:
        raise _too_many_files()
    longest_read = entries * DIRECTORY_BYTES_PER_ENTRY + END_SEARCH_BYTES
    stream = _BoundedReads(data, longest_read)
    archive = zipfile.ZipFile(stream)
    stream.longest_read = len(data)  # entries are bounded where they are inflated
    return archive


class _BoundedReads(io.BytesIO):
    """Bytes that refuse to be read in too long a piece, such as a bloated zip directory."""

    def __init__(self, data: bytes, longest_read: int) -> None:
        super().__init__(data)
        self.longest_read = longest_read

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        if len(piece) > self.longest_read:
            raise zipfile.BadZipFile("its directory is too long for its number of files")
        return piece


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """The bytes of an entry, one more than `limit` if there are more."""
    if info.flag_bits & ENCRYPTED_FLAG:
        raise invalid_archive("the zip archive is encrypted")
    if info.compress_type not in METHODS:
        raise invalid_archive("the zip archive is compressed with another method than deflate")
    with archive.open(info) as entry:
        return entry.read(limit + 1)


def _checked(content: bytes, max_bytes: int) -> bytes | ApiError:
    if len(content) > max_bytes:
        return input_too_large(max_bytes)
    if content.startswith(ARCHIVE_MAGICS) or content.startswith(TAR_MAGIC, TAR_MAGIC_AT):
        return ApiError(422, "nested_archive", "an archive inside an archive is not unpacked")
    return content


def _clean_path(info: zipfile.ZipInfo) -> str | None:
    """The path without `.`, `..` and root, with `/`; None for what is no input."""
    name = _decoded_name(info).replace("\\", "/")
    parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
    if not parts or name.endswith("/"):
        return None
    hidden = any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parts)
    return None if hidden or parts[-1].lower() in SKIPPED_FILES else "/".join(parts)


def _decoded_name(info: zipfile.ZipInfo) -> str:
    """The entry's name; the Finder writes UTF-8 without its flag, which reads as code page 437."""
    if info.flag_bits & UTF8_FLAG or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename
