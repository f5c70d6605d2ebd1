"""Blobs: bytes under a key, in a folder or in object storage (any fsspec URL). Knows no database and no head.

A key is a path of plain names, such as `inputs/3f/5c0e`. In a folder, a blob is written beside its place and
moved there once it is on the disk, so that a key never has half of its bytes.
"""

import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import fsspec
from fsspec.asyn import sync

from service.store.durable import sync_folder
from service.store.errors import BlobNotFoundError, BlobUrlError, StoreUnavailableError

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
PARTIAL = "partial/"  # blobs of a folder that are being written, or that a crash left so
CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
KEYS_PER_DELETE = 1000  # as many as S3 takes in one call

# An object store that does not answer is an error within a minute, not many of trying again.
S3_ROUNDS = 1  # of the attempts below; s3fs makes five
PATIENCE_S = 30.0  # for a write, and a second more for each of the bytes below
SLOWEST_BYTES_PER_S = 1024 * 1024
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 15,
            "retries": {"mode": "standard", "total_max_attempts": 3},
        },
    }
}


@dataclass(frozen=True)
class BlobEntry:
    """A blob without its bytes. The time is aware and in UTC."""

    key: str
    size_bytes: int
    modified_at: datetime


class _Place(Protocol):
    """Where blobs are. Keys were checked by the caller."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes:
        """The bytes; FileNotFoundError if there are none."""
        ...

    def delete(self, keys: Sequence[str]) -> None: ...

    def entries(self, prefix: str) -> Iterator[BlobEntry]: ...


class BlobStore:
    """Bytes by key; safe to share between threads. `BlobStore.open` makes one."""

    def __init__(self, place: _Place, url: str) -> None:
        self._place = place
        self._url = CREDENTIALS.sub("", url)
        self._secrets = CREDENTIALS.findall(url)

    @classmethod
    def open(cls, url: str) -> "BlobStore":
        """A store at a folder, which need not exist, or at an fsspec URL. Writes nothing.

        Parameters
        ----------
        url : path of a folder, `file:///folder`, `s3://bucket/prefix` or another URL that fsspec knows.

        Raises
        ------
        BlobUrlError
            The URL cannot be used, or needs a Python package that is not installed.
        StoreUnavailableError
            The server cannot be reached, where a kind of store connects at once.
        """
        protocol, _, path = url.rpartition("://")
        if protocol in ("", "file", "local"):
            return cls(_Folder(Path(path).absolute()), url)
        if protocol == "memory":
            raise BlobUrlError("several processes share the blobs, so memory:// cannot hold them")
        shown = CREDENTIALS.sub("", url)
        try:
            files, root = fsspec.url_to_fs(url, skip_instance_cache=True, **OPTIONS.get(protocol, {}))
        except ImportError as error:
            raise BlobUrlError(f"{shown} needs a Python package that is not installed: {error}") from error
        except ValueError as error:
            raise BlobUrlError(f"{shown} is no place for blobs: {error}") from error
        except OSError as error:
            raise StoreUnavailableError("the blobs cannot be used now", f"{shown}: {error}") from error
        if protocol == "s3":
            files.retries = S3_ROUNDS
        return cls(_Remote(files, root.rstrip("/")), url)

    def put(self, key: str, data: bytes) -> None:
        """Write a blob, all of it or nothing; when this returns, it survives a power loss.

        Raises
        ------
        ValueError
            The key is no path of plain names.
        StoreUnavailableError
            The disk is full, the folder cannot be written to, the object store cannot be reached.
        """
        _require_key(key)
        with self._translated():
            self._place.put(key, data)

    def get(self, key: str) -> bytes:
        """The bytes of a blob.

        Raises
        ------
        BlobNotFoundError
            There is none.
        StoreUnavailableError
        """
        _require_key(key)
        with self._translated():
            try:
                return self._place.get(key)
            except FileNotFoundError as error:
                raise BlobNotFoundError(key) from error

    def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs; one that is absent already is fine.

        Raises
        ------
        StoreUnavailableError
            Some may be deleted, some not: the same call may be made again.
        """
        for key in keys:
            _require_key(key)
        with self._translated():
            self._place.delete(keys)

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        """The blobs in a folder of keys and below it, in no order; none if there is no such folder.

        Parameters
        ----------
        prefix : whole names, such as `inputs/` or `extractors/<digest>`.

        Raises
        ------
        StoreUnavailableError
        """
        _require_key(prefix.rstrip("/"))
        with self._translated():
            yield from self._place.entries(prefix.rstrip("/"))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BlobNotFoundError, GeneratorExit):
            raise
        except Exception as error:  # each driver has its own tree of errors
            if not isinstance(self._place, _Remote) and not isinstance(error, OSError):
                raise
            detail = f"{self._url}: {error or type(error).__name__}"
            for secret in self._secrets:
                detail = detail.replace(secret, "")
            is_disk = isinstance(self._place, _Folder) and isinstance(error, OSError) and error.strerror
            reason = f" ({error.strerror})" if is_disk else ""  # type: ignore[attr-defined]
            raise StoreUnavailableError(f"the blobs cannot be used now{reason}", detail) from error


class _Folder:
    """Blobs in a local folder: each a file, durable once it is written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._synced: set[Path] = set()

    def put(self, key: str, data: bytes) -> None:
        target = self._root / key
        partial = self._root / PARTIAL / uuid.uuid4().hex
        self._make(partial.parent)
        self._make(target.parent)
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise
        sync_folder(target.parent)

    def get(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            (self._root / key).unlink(missing_ok=True)

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        for folder, _, names in os.walk(self._root / prefix, onerror=_raise_unless_absent):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found = path.stat()
                    key = path.relative_to(self._root).as_posix()
                    yield BlobEntry(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def _make(self, folder: Path) -> None:
        """A folder that a power loss does not take away; what was seen to once is not seen to again."""
        if folder in self._synced and folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for made in (folder, *folder.parents):
            if made in self._synced or not made.is_relative_to(self._root):
                break
            sync_folder(made.parent)
            self._synced.add(made)


class _Remote:
    """Blobs in object storage: a write is atomic and durable there once it is acknowledged."""

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self._root = root

    def put(self, key: str, data: bytes) -> None:
        path = f"{self._root}/{key}"
        if not self._files.async_impl:
            self._files.pipe_file(path, data)
            return
        # Nothing else ends a write to a server that took the connection and never asks for the bytes.
        patience_s = PATIENCE_S + len(data) / SLOWEST_BYTES_PER_S
        sync(self._files.loop, self._files._pipe_file, path, data, timeout=patience_s)

    def get(self, key: str) -> bytes:
        return bytes(self._files.cat_file(f"{self._root}/{key}"))

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), KEYS_PER_DELETE):
            paths = [f"{self._root}/{key}" for key in keys[start : start + KEYS_PER_DELETE]]
            try:
                self._files.rm(paths)
            except FileNotFoundError:
                for path in paths:
                    with suppress(FileNotFoundError):
                        self._files.rm_file(path)

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        found = self._files.find(f"{self._root}/{prefix}", detail=True)
        for path, info in found.items():
            key = path.removeprefix(f"{self._root}/")
            yield BlobEntry(key, int(info["size"]), self._modified_at(path, info))

    def _modified_at(self, path: str, info: dict[str, Any]) -> datetime:
        for name in ("LastModified", "mtime", "updated", "last_modified"):
            value = info.get(name)
            if isinstance(value, int | float):
                return datetime.fromtimestamp(value, UTC)
            if isinstance(value, datetime):
                return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        modified: datetime = self._files.modified(path)
        return modified.astimezone(UTC) if modified.tzinfo else modified.replace(tzinfo=UTC)


def _require_key(key: str) -> None:
    if not KEY.fullmatch(key):
        raise ValueError(f"expected a key of plain names between slashes, got {key!r}")


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
