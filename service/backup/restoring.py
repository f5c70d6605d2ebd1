"""Restoring a backup: all of it is verified before the home is touched, and the rows come last, in one step.

What comes before the rows are blobs and extractors that no row names yet: a restore that is cut off leaves a
home as it was, and the same call can be made again. Nothing is written outside the home.
"""

import shutil
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from service.backup.contents import (
    BLOBS,
    DATABASE,
    EXTRACTORS,
    MANIFEST,
    MOST_MANIFEST_BYTES,
    Contents,
    digest_of,
)
from service.backup.errors import BackupDamagedError
from service.backup.media import Medium, opened, write_file
from service.backup.named import named_by
from service.backup.scratch import scratch
from service.config import Settings
from service.store import Store, sqlite_file
from service.store.durable import sync_folder
from service.store.schema import require_known
from training.errors import ManifestError
from training.manifest import Manifest


@dataclass(frozen=True)
class Restored:
    """What was restored.

    Attributes
    ----------
    blobs : how many.
    extractors : names of the folders that were written; those that were there already stay as they are.
    """

    contents: Contents
    blobs: int
    extractors: tuple[str, ...]


def restore(settings: Settings, path: Path, *, replace_all: bool = False) -> Restored:
    """Bring the home of the settings to what a backup holds, at the schema of this code.

    Parameters
    ----------
    replace_all : whether what the home has may go.

    Raises
    ------
    BackupDamagedError
        It is not whole, or no backup: nothing was changed.
    SchemaError
        It is of a newer version of Headstart: nothing was changed.
    HomeNotEmptyError, HomeInUseError
    StoreError, OSError
    """
    written: list[str] = []
    with opened(path) as medium:
        contents = verify(medium)

        def put_files() -> None:
            for name in contents.files:
                if name.startswith(BLOBS):
                    store.blobs.put(name.removeprefix(BLOBS), _bytes(medium, contents, name))
            written.extend(_put_extractors(settings, medium, contents))

        with Store.open(settings.resolved_database_url, settings.resolved_blob_url) as store:
            with scratch(settings, store) as folder:
                copy = folder / DATABASE
                _migrated_copy(medium, contents, copy)
                store.read_copy(copy, replace=replace_all, before=put_files)
            if replace_all and not settings.database_url:
                # Nobody is at work, so that a blob without a row is one of what was replaced.
                store.inputs.tidy(timedelta(0))
    blobs = sum(name.startswith(BLOBS) for name in contents.files)
    return Restored(contents, blobs, tuple(written))


def verify(medium: Medium) -> Contents:
    """Read all of a backup and compare it with its manifest.

    Raises
    ------
    BackupDamagedError, SchemaError
    """
    names = set(medium.names())
    with medium.open(MANIFEST) as stream:
        data = stream.read(MOST_MANIFEST_BYTES + 1)
    if len(data) > MOST_MANIFEST_BYTES:
        raise BackupDamagedError(f"{MANIFEST} is too large")
    contents = Contents.read(data)
    require_known(contents.schema)
    expected = {MANIFEST, *contents.files}
    if names != expected or DATABASE not in names:
        odd = sorted(names ^ (expected | {DATABASE}))
        raise BackupDamagedError(f"missing, or not in {MANIFEST}: {', '.join(odd[:5])}")
    for name, file in contents.files.items():
        with medium.open(name) as stream:
            if digest_of(stream) != file:
                raise BackupDamagedError(f"{name} is damaged")
    return contents


def _migrated_copy(medium: Medium, contents: Contents, copy: Path) -> None:
    """The rows in a file of their own, checked and at the schema of this code."""
    with medium.open(DATABASE) as stream:
        write_file(copy, stream)
    sqlite_file.check(copy)
    with Store.open(f"sqlite:///{copy}", str(copy.parent)) as store:
        store.migrate()
    for key, sha256 in named_by(copy).blobs.items():
        file = contents.files.get(BLOBS + key)
        if file is None or file.sha256 != sha256:
            raise BackupDamagedError(f"the blob {key} is missing or is not the one that the rows name")
    with sqlite_file.alone(copy):
        pass  # its log is part of it now


def _bytes(medium: Medium, contents: Contents, name: str) -> bytes:
    with medium.open(name) as stream:
        found = digest_of(stream)
    if found != contents.files[name]:
        raise BackupDamagedError(f"{name} was altered while it was read")
    with medium.open(name) as stream:
        return stream.read()


def _put_extractors(settings: Settings, medium: Medium, contents: Contents) -> list[str]:
    """Write the extractor folders that are not there; their names."""
    files: dict[str, list[str]] = {}
    for name in contents.files:
        if name.startswith(EXTRACTORS):
            folder, _, _ = name.removeprefix(EXTRACTORS).partition("/")
            files.setdefault(folder, []).append(name)
    root = settings.home.absolute() / "extractors"
    written = []
    for folder, names in files.items():
        if (root / folder).exists():
            continue
        partial = root / f".{folder}.{uuid.uuid4().hex}"
        try:
            for name in names:
                with medium.open(name) as stream:
                    write_file(partial / name.rpartition("/")[2], stream)
            _require_extractor(partial)
            partial.rename(root / folder)
            sync_folder(root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        written.append(folder)
    return written


def _require_extractor(folder: Path) -> None:
    try:
        Manifest.load(folder).verify_files(folder)
    except ManifestError as error:
        raise BackupDamagedError(f"an extractor of the backup is damaged: {error}") from error
