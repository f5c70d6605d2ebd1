"""A head with its examples into an archive, through files that no name leads to.

Memory has the keys of the inputs, one input and a few hundred embeddings at a time. Knows no HTTP.
"""

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from service.exchange.head_archive import members
from service.exchange.head_archive.contents import (
    EMBEDDINGS,
    EXAMPLES,
    HEAD,
    INPUTS,
    MANIFEST,
    MOST_EXAMPLES,
    About,
    File,
    example_line,
    too_many,
)
from service.learning.train_options import fit_of
from service.store import ExampleRow, HeadRow, RevisionConflictError, Store, StoreUnavailableError, VersionRow
from service.store.embeddings import VECTOR_DTYPE, chunks
from training import __version__
from training.heads import FitOptions

PAGE = 1000


@dataclass(frozen=True)
class HeadArchive:
    """An archive that was written: a file at its beginning, which is gone once it is closed."""

    filename: str
    size_bytes: int
    sha256: str
    file: IO[bytes] = field(repr=False)


@contextmanager
def unavailable_if_full() -> Iterator[None]:
    """A disk that has no room, or no folder, is a store that is unavailable."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError("an archive cannot be written now", error) from error


def temporary(folder: Path) -> IO[bytes]:
    """A file without a name in a folder: it is gone with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def write_archive(store: Store, head: HeadRow, version: VersionRow, folder: Path) -> HeadArchive:
    """Write a version of a head, and the examples that the head has, as a file in a folder.

    Raises
    ------
    RevisionConflictError
        An example went meanwhile.
    ApiError
        413 `archive_too_large`.
    StoreUnavailableError
    """
    with temporary(folder) as lines, temporary(folder) as rows:
        count, kept = _write_lines(store, head, lines)
        keys = list(kept)
        width = _write_rows(store, head, keys, rows)
        model = io.BytesIO(store.versions.file(head.id, version.number))
        parts = {HEAD: model, EXAMPLES: lines, EMBEDDINGS: rows}
        about = About(
            head=head.name,
            task=head.task,
            keep_inputs=head.keep_inputs,
            extractor=head.extractor_name,
            digest=head.extractor_digest,
            width=width,
            version=version.number,
            trained_on=version.examples_total,
            fit=FitOptions(task=head.task, **fit_of(version)).as_dict(),
            examples=count,
            inputs=sum(size is not None for size in kept.values()),
            files={name: _measured(file) for name, file in parts.items()},
            library_version=__version__,
        )
        packed = temporary(folder)
        with tarfile.open(fileobj=packed, mode="w:", format=tarfile.USTAR_FORMAT) as archive:
            text = about.as_json()
            members.write(archive, MANIFEST, len(text), io.BytesIO(text))
            for name, file in parts.items():
                members.write(archive, name, about.files[name].size_bytes, file)
            for key, size in kept.items():
                if size is not None:
                    data = io.BytesIO(store.inputs.read(head.id, key))
                    members.write(archive, INPUTS + key, size, data)
    found = _measured(packed)
    return HeadArchive(f"{head.name}-v{version.number}.tar", found.size_bytes, found.sha256, packed)


def _write_lines(store: Store, head: HeadRow, file: IO[bytes]) -> tuple[int, dict[str, int | None]]:
    """Write the examples; how many, and the size of each of their inputs that is kept, else None."""
    count = 0
    sizes: dict[str, int | None] = {}
    for row in _examples(store, head):
        file.write(example_line(row.label, row.sha256, row.size_bytes, row.source_id))
        sizes[row.sha256] = row.size_bytes if row.kept else None
        count += 1
        if count > MOST_EXAMPLES:
            raise too_many()
    return count, sizes


def _examples(store: Store, head: HeadRow) -> Iterator[ExampleRow]:
    after = None
    while True:
        page = store.examples.list(head.name, after, PAGE)
        yield from page.items
        after = page.next_after
        if after is None:
            return


def _write_rows(store: Store, head: HeadRow, keys: Sequence[str], file: IO[bytes]) -> int:
    """Write the rows of inputs in their order; the width of each, 0 if there is none."""
    width = 0
    for chunk in chunks(keys):
        found = store.embeddings.get(head.extractor_digest, chunk)
        if len(found) < len(chunk):
            raise RevisionConflictError("an example was removed while its embedding was read")
        for key in chunk:
            file.write(found[key].astype(VECTOR_DTYPE, copy=False).tobytes())
            width = len(found[key])
    return width


def _measured(file: IO[bytes]) -> File:
    """Size and sha256 of a file, which is then at its beginning."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    file.seek(0)
    return File(digest.hexdigest(), size_bytes)
