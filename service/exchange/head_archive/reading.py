"""An archive of unknown origin into what a head can be made of. All of it is read and checked.

Knows no store, and writes nothing.

Memory has the examples and one input at a time; embeddings stay in the file until they are stored.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from service.errors import ApiError
from service.exchange.head_archive import members
from service.exchange.head_archive.contents import (
    EMBEDDINGS,
    EXAMPLES,
    HASHED,
    HEAD,
    INPUTS,
    MANIFEST,
    MOST_EXAMPLES,
    MOST_LINE_BYTES,
    MOST_MANIFEST_BYTES,
    SHA256,
    About,
    read_example,
    refused,
    too_many,
)
from service.exchange.head_archive.members import Member
from service.exchange.importer import read_head_file
from service.inputs.support import Member as ExampleMember
from service.inputs.support import clash
from service.store import NewExample, Vector
from service.store.embeddings import VECTOR_DTYPE
from training.heads import Head
from training.image_header import image_format


class Rows(Mapping[str, Vector]):
    """The rows of inputs, by sha256, left in the file of an archive."""

    def __init__(self, keys: Sequence[str], matrix: np.ndarray) -> None:
        self._places = {key: place for place, key in enumerate(keys)}
        self._matrix = matrix

    def __getitem__(self, key: str) -> Vector:
        row: Vector = np.array(self._matrix[self._places[key]], dtype=np.float32)
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class Checked:
    """An archive that is whole and means no harm.

    Attributes
    ----------
    inputs : the kept ones, by sha256, still in the file.
    """

    about: About
    head: Head
    examples: tuple[NewExample, ...]
    rows: Rows
    inputs: Mapping[str, Member]


@dataclass(frozen=True)
class Limits:
    """Most bytes of a head file and of one input."""

    head_bytes: int
    input_bytes: int


def check_archive(file: IO[bytes], limits: Limits) -> Checked:
    """Read all of an archive.

    Raises
    ------
    ApiError
        422 `invalid_head_archive`, `invalid_head_file`, or what is wrong with a label or an id; 413
        `archive_too_large`, `input_too_large`.
    """
    found = members.read(file)
    about = _about(file, next(found, None))
    parts = {name: _part(file, next(found, None), name, about, limits) for name in HASHED}
    head = read_head_file(members.content(file, parts[HEAD]))
    if (head.extractor_digest, head.task) != (about.digest, about.task):
        raise refused(f"{HEAD} is of another extractor or task than {MANIFEST} says")
    examples = _examples(file, parts[EXAMPLES], about)
    sizes = {example.sha256: example.size_bytes for example in examples}
    keys = list(sizes)
    rows = _rows(file, parts[EMBEDDINGS], keys, about.width)
    inputs = dict(_input(file, member, limits) for member in found)
    if len(inputs) != about.inputs or any(
        sizes.get(key) != member.size_bytes for key, member in inputs.items()
    ):
        raise refused(f"expected {about.inputs} kept inputs, each of an example, found {len(inputs)}")
    if inputs and not about.keep_inputs:
        raise refused("inputs of a head that keeps none")
    return Checked(about, head, examples, rows, inputs)


def _about(file: IO[bytes], member: Member | None) -> About:
    if member is None or member.name != MANIFEST or member.size_bytes > MOST_MANIFEST_BYTES:
        raise refused(f"expected {MANIFEST} first")
    return About.read(members.content(file, member))


def _part(file: IO[bytes], member: Member | None, name: str, about: About, limits: Limits) -> Member:
    """One of the files that the manifest has the digest of."""
    if member is None or member.name != name:
        raise refused(f"expected {name}, found {member.name if member else 'the end'!r:.80}")
    if name == HEAD and member.size_bytes > limits.head_bytes:
        raise ApiError(413, "archive_too_large", f"{HEAD} can have {limits.head_bytes} bytes")
    expected = about.files[name]
    if (_sha256(file, member), member.size_bytes) != (expected.sha256, expected.size_bytes):
        raise refused(f"{name} is damaged")
    return member


def _examples(file: IO[bytes], member: Member, about: About) -> tuple[NewExample, ...]:
    if about.examples > MOST_EXAMPLES:
        raise too_many()
    examples = []
    beside: dict[str, dict[str, ExampleMember]] = {}
    for line in _lines(file, member):
        example = read_example(line)
        others = beside.setdefault(example.sha256, {})
        if clash(others, example.label, about.task):
            raise refused(f"the input {example.sha256} has labels that do not go together")
        others[example.label] = ExampleMember(example.sha256, example.label)
        examples.append(example)
        if len(examples) > about.examples:
            break
    if len(examples) != about.examples:
        raise refused(f"expected {about.examples} examples, found {len(examples)}")
    return tuple(examples)


def _lines(file: IO[bytes], member: Member) -> Iterator[bytes]:
    file.seek(member.offset)
    left = member.size_bytes
    while left:
        line = file.readline(min(left, MOST_LINE_BYTES))
        if not line.endswith(b"\n"):
            raise refused(f"{EXAMPLES}: a line is too long, or the last has no end")
        left -= len(line)
        yield line


def _rows(file: IO[bytes], member: Member, keys: Sequence[str], width: int) -> Rows:
    row_bytes = width * VECTOR_DTYPE.itemsize
    if member.size_bytes != len(keys) * row_bytes or (keys and not width):
        raise refused(f"{EMBEDDINGS}: expected {len(keys)} rows of {width} numbers")
    if not keys:
        return Rows([], np.empty((0, width), np.float32))
    for piece in members.pieces(file, member):
        if not np.isfinite(np.frombuffer(piece, VECTOR_DTYPE)).all():
            raise refused(f"{EMBEDDINGS}: expected finite numbers")
    shape = (len(keys), width)
    return Rows(keys, np.memmap(file, VECTOR_DTYPE, mode="r", offset=member.offset, shape=shape))


def _input(file: IO[bytes], member: Member, limits: Limits) -> tuple[str, Member]:
    sha256 = member.name.removeprefix(INPUTS)
    if not member.name.startswith(INPUTS) or not SHA256.fullmatch(sha256):
        raise refused(f"{member.name!r:.80} is no name of a file of it")
    if member.size_bytes > limits.input_bytes:
        message = f"a kept input has {member.size_bytes} bytes, and {limits.input_bytes} are allowed"
        raise ApiError(413, "input_too_large", message)
    if _sha256(file, member) != sha256:
        raise refused(f"{member.name} is damaged")
    if image_format(next(members.pieces(file, member), b"")) is None:
        raise refused(f"{member.name} is not an image")
    return sha256, member


def _sha256(file: IO[bytes], member: Member) -> str:
    digest = hashlib.sha256()
    for piece in members.pieces(file, member):
        digest.update(piece)
    return digest.hexdigest()
