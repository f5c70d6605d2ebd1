"""Writing a backup while servers write: first the rows of one moment, then the blobs that these name.

A blob that is gone by then belonged to what was removed meanwhile: the rows are then copied anew. So the
backup is of one moment, and has every byte that its rows name. Until it is whole it has another name.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.backup.contents import BLOBS, DATABASE, EXTRACTORS, MANIFEST, Contents, File, digest_of
from service.backup.errors import BackupError
from service.backup.media import as_stream, pack, write_file
from service.backup.named import named_by, without
from service.config import Settings
from service.store import BlobNotFoundError, Store, StoreCorruptedError
from service.store.durable import sync_folder
from training import __version__
from training.manifest import FILES

PARTIAL = ".partial"
LOCK = ".lock"
TAR = ".tar"
ROUNDS = 4  # of copying the rows, while others remove what these name


@dataclass(frozen=True)
class BackedUp:
    """A backup that was written."""

    path: Path
    files: int
    size_bytes: int
    inputs_gone: int


def back_up(settings: Settings, path: Path) -> BackedUp:
    """Write all that a home remembers, at one moment, as a new folder or as a file that ends in `.tar`.

    Raises
    ------
    BackupError
        The place is taken.
    StoreError, OSError
        The home cannot be read, or the place not be written to.
    """
    if path.exists():
        raise BackupError(f"{path} is there already: a backup is never written over another")
    with _partial(path) as folder:
        with Store.open(settings.resolved_database_url, settings.resolved_blob_url) as store:
            contents = _write(store, settings, folder)
        whole = folder
        if path.suffix == TAR:
            whole = folder.with_name(folder.name + TAR)
            pack(folder, whole)
        whole.rename(path)
        sync_folder(path.parent)
    return BackedUp(
        path,
        len(contents.files),
        sum(file.size_bytes for file in contents.files.values()),
        contents.inputs_gone,
    )


def _write(store: Store, settings: Settings, folder: Path) -> Contents:
    files: dict[str, File] = {}
    for left in reversed(range(ROUNDS)):
        created_at = datetime.now(UTC)
        (folder / DATABASE).unlink(missing_ok=True)
        schema = store.write_copy(folder / DATABASE)
        gone = _copy_blobs(store, folder, files)
        if not gone or not left:
            break
    inputs = named_by(folder / DATABASE).inputs
    if not gone <= inputs.keys():
        raise BackupError("extractors were removed all the time: run the backup again")
    without(folder / DATABASE, gone)
    files |= _copy_extractors(settings, folder)
    with (folder / DATABASE).open("rb+") as copy:
        os.fsync(copy.fileno())
        files[DATABASE] = digest_of(copy)
    contents = Contents(created_at.isoformat(), __version__, schema, len(gone), files)
    write_file(folder / MANIFEST, as_stream(contents.as_json()))
    sync_folder(folder)
    return contents


def _copy_blobs(store: Store, folder: Path, files: dict[str, File]) -> set[str]:
    """Copy what the rows name and is not there yet, delete what they do not name; the keys that are gone."""
    named = named_by(folder / DATABASE).blobs
    gone = set()
    for name in [name for name in files if name.removeprefix(BLOBS) not in named]:
        (folder / name).unlink()
        del files[name]
    for key, sha256 in named.items():
        if BLOBS + key in files:
            continue
        try:
            data = store.blobs.get(key)
        except BlobNotFoundError:
            gone.add(key)
            continue
        found = digest_of(as_stream(data))
        if found.sha256 != sha256:
            raise StoreCorruptedError(f"the blob {key} is damaged")
        write_file(folder / BLOBS / key, as_stream(data))
        files[BLOBS + key] = found
    return gone


def _copy_extractors(settings: Settings, folder: Path) -> dict[str, File]:
    """Copy the folders of HEADSTART_EXTRACTORS; those in the model store of a server are not there."""
    files = {}
    for name in settings.extractors:
        source = settings.extractor_folder(name)
        if not (source / FILES.manifest).is_file():
            continue
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                target = folder / EXTRACTORS / source.name / path.name
                with path.open("rb") as stream:
                    write_file(target, stream)
                with target.open("rb") as stream:
                    files[f"{EXTRACTORS}{source.name}/{path.name}"] = digest_of(stream)
    return files


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """An empty folder beside the place of a backup, for this process alone; what a crash left there goes.

    Raises
    ------
    BackupError
        Another process writes the same backup.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}{PARTIAL}")
    lock = path.with_name(f".{path.name}{LOCK}")
    with lock.open("wb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BackupError(f"another process writes {path}") from error
        try:
            _remove(folder)
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            _remove(folder)
            lock.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(folder.name + TAR).unlink(missing_ok=True)
