"""The files of a tar, one after the other, written and read as a stream. Knows no names.

Only plain files have a place in it. The reader takes a header of 512 bytes at a time: links, sparse files and
extended headers, whose length the sender would choose, are refused by their type before any of them is read.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from service.exchange.head_archive.contents import refused

BLOCK_BYTES = tarfile.BLOCKSIZE
PIECE_BYTES = 1 << 20
FILE_MODE = 0o600


@dataclass(frozen=True)
class Member:
    """A file of the archive, and where its bytes are."""

    name: str
    size_bytes: int
    offset: int


def write(archive: tarfile.TarFile, name: str, size_bytes: int, stream: IO[bytes]) -> None:
    """Add a file; it tells nothing of this machine, its users or the time."""
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    member.mode = FILE_MODE
    archive.addfile(member, stream)


def read(file: IO[bytes]) -> Iterator[Member]:
    """The files of an archive; each is checked to be there as a whole.

    Raises
    ------
    ApiError
        422 `invalid_head_archive`.
    """
    size_bytes = file.seek(0, io.SEEK_END)
    offset = 0
    while True:
        file.seek(offset)
        block = file.read(BLOCK_BYTES)
        if block == bytes(BLOCK_BYTES):
            _require_end(file)
            return
        member = _member(block, offset + BLOCK_BYTES)
        offset = member.offset + -(-member.size_bytes // BLOCK_BYTES) * BLOCK_BYTES
        if offset > size_bytes:
            raise refused(f"it ends within {member.name!r:.80}")
        yield member


def pieces(file: IO[bytes], member: Member, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """The bytes of a member, some at a time."""
    for start in range(0, member.size_bytes, size):
        file.seek(member.offset + start)
        yield file.read(min(size, member.size_bytes - start))


def content(file: IO[bytes], member: Member) -> bytes:
    """All bytes of a member."""
    return b"".join(pieces(file, member))


def _member(block: bytes, offset: int) -> Member:
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
        raise refused("it is not a tar file, or is damaged or incomplete") from error
    if found.type != tarfile.REGTYPE or found.size < 0:
        raise refused(f"{found.name!r:.80} is no plain file")
    return Member(found.name, found.size, offset)


def _require_end(file: IO[bytes]) -> None:
    while piece := file.read(PIECE_BYTES):
        if piece.strip(b"\0"):
            raise refused("something comes after its end")
