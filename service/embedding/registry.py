"""Extractors that are added while servers run: a row in the store, files as blobs, local copies on demand.

Knows how they come in, how they become a folder again and how they go. Does not know who has one loaded.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.config import Settings
from service.embedding.extractor import Extractor
from service.store import (
    BlobNotFoundError,
    BlobStore,
    ExtractorExistsError,
    ExtractorRow,
    ExtractorUnavailableError,
    Store,
)
from training.errors import ManifestError
from training.manifest import FILES, Manifest

logger = logging.getLogger("headstart.registry")

PREFIX = "extractors"
PARTIAL = ".part"
MAX_NAME = 128  # characters, as in a query parameter
ABANDONED_AFTER_S = 3600  # a copy that nobody has finished for that long was left by a crash
ADDED: Mapping[str, Any] = {"kind": "added"}


@dataclass(frozen=True)
class Registry:
    """The extractors that every process on one database and blob store may load.

    Parameters
    ----------
    store, blobs : where their rows and files are.
    folder : where local copies are kept, by digest.
    reserved : digest, by name, of the extractors of HEADSTART_EXTRACTORS; None where it is not known.
    device : where an extractor is tried out before it is registered.
    """

    store: Store
    blobs: BlobStore
    folder: Path
    reserved: Mapping[str, str | None]
    device: str = "cpu"

    @classmethod
    def of(cls, settings: Settings, store: Store) -> "Registry":
        """The registry of a server, a worker or a command with these settings."""
        return cls(
            store,
            store.blobs,
            settings.home.absolute() / "cache" / "extractors",
            reserved=dict(_named(settings, name) for name in settings.extractors),
            device=settings.device,
        )

    def register(
        self, folder: Path, origin: Mapping[str, Any] = ADDED, *, tenant: str | None = None
    ) -> ExtractorRow:
        """Give an extractor folder to all servers. One that is there already has its files written anew.

        Parameters
        ----------
        origin : where it comes from, as JSON; see `ExtractorRow`.
        tenant : the one that may use it; None for all.

        Raises
        ------
        ManifestError, DeviceError
            The folder is no extractor, or one that does not give its golden embeddings here.
        ExtractorExistsError
            Its name belongs to another extractor.
        StoreUnavailableError
            The database or the blobs cannot be written to; nothing is registered.
        """
        manifest = Extractor.load(folder, device=self.device).manifest
        self._require_free(manifest)
        while True:
            there = self.store.extractors.with_digest(manifest.digest)
            keys = there.blobs if there else f"{PREFIX}/{manifest.digest}/{uuid.uuid4().hex}"
            row = ExtractorRow(
                digest=manifest.digest,
                name=manifest.name,
                manifest=json.loads((folder / FILES.manifest).read_text(encoding="utf-8")),
                origin=dict(origin),
                blobs=keys,
                created_at=datetime.now(UTC),
                tenant=tenant,
            )
            self._write_files(folder, row)
            # A removal meanwhile took the row and the files of an extractor that was there.
            found = self.store.extractors.with_digest(row.digest) if there else self._add(row)
            if found is not None and found.blobs == keys:
                return found

    def fetch(self, row: ExtractorRow) -> Path:
        """The extractor as a local folder, whole and verified; downloaded unless it is there.

        Raises
        ------
        ExtractorUnavailableError
            A file is missing or damaged as a blob, or cannot be written here. The next call tries again.
        StoreUnavailableError
            The blobs cannot be reached.
        """
        folder = self.folder / row.digest
        if folder.is_dir():
            try:
                _verify(folder, row)
                return folder
            except ManifestError as error:
                logger.warning("fetching extractor %s again: %s", row.name, error)
                self.discard(row.digest)
        try:
            return self._download(row, folder)
        except (ManifestError, BlobNotFoundError, OSError) as error:
            raise ExtractorUnavailableError(row.name, error) from error

    def discard(self, digest: str) -> None:
        """Delete the local copy of an extractor; nothing if there is none."""
        doomed = self.folder / f"{uuid.uuid4().hex}{PARTIAL}"
        try:
            (self.folder / digest).rename(doomed)  # at once, so that nobody finds half of it
        except FileNotFoundError:
            return
        shutil.rmtree(doomed, ignore_errors=True)

    def remove(self, name: str) -> int:
        """Forget an extractor: its row, its files and its cached embeddings; how many of these there were.

        Raises
        ------
        ExtractorNotFoundError
            None of that name is registered.
        ExtractorInUseError
            Heads or their versions refer to it.
        StoreUnavailableError
        """
        row = self.store.extractors.remove(name)
        self.blobs.delete(_keys(row))
        self.discard(row.digest)
        return 0 if row.digest in self.reserved.values() else self.store.embeddings.drop(row.digest)

    def sweep(self) -> None:
        """Delete what a crash left here and among the blobs, and local copies of extractors that are gone.

        Raises
        ------
        StoreUnavailableError
        """
        old = datetime.now(UTC) - timedelta(seconds=ABANDONED_AFTER_S)
        entries = [entry.key for entry in self.blobs.entries(PREFIX) if entry.modified_at < old]
        rows = self.store.extractors.of_all_tenants()
        files = {key for row in rows for key in _keys(row)}
        self.blobs.delete([key for key in entries if key not in files])
        known = {row.digest for row in rows}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name.endswith(PARTIAL):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    shutil.rmtree(path, ignore_errors=True)
            elif path.name not in known:
                self.discard(path.name)

    def _require_free(self, manifest: Manifest) -> None:
        if len(manifest.name) > MAX_NAME:
            raise ManifestError(
                f"key name: expected at most {MAX_NAME} characters, found {len(manifest.name)}"
            )
        there = self.store.extractors.named(manifest.name)
        digests = {there.digest} if there else set()
        if manifest.name in self.reserved:
            digests.add(self.reserved[manifest.name] or "")
        if digests - {manifest.digest}:
            raise ExtractorExistsError(manifest.name)

    def _write_files(self, folder: Path, row: ExtractorRow) -> None:
        for name, sha256 in row.manifest["files"].items():
            data = (folder / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                raise ManifestError(f"{folder / name} was altered while it was read")
            self.blobs.put(f"{row.blobs}/{name}", data)

    def _add(self, row: ExtractorRow) -> ExtractorRow | None:
        """Insert the row; delete its files if it could not be, or if another process was faster."""
        found: ExtractorRow | None = None
        try:
            found = self.store.extractors.add(row)
            return found
        finally:
            if found is None or found.blobs != row.blobs:
                self.blobs.delete(_keys(row))

    def _download(self, row: ExtractorRow, folder: Path) -> Path:
        partial = self.folder / f"{uuid.uuid4().hex}{PARTIAL}"
        partial.mkdir(parents=True)
        try:
            text = json.dumps(row.manifest)
            (partial / FILES.manifest).write_text(text, encoding="utf-8")
            for name in row.manifest["files"]:
                (partial / name).write_bytes(self.blobs.get(f"{row.blobs}/{name}"))
            _verify(partial, row)
            try:
                os.rename(partial, folder)
            except OSError:
                if not folder.is_dir():
                    raise
                _verify(folder, row)  # another process was faster
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return folder


def _named(settings: Settings, name: str) -> tuple[str, str | None]:
    try:
        manifest = Manifest.load(settings.extractor_folder(name))
    except (ManifestError, OSError):
        return Path(name).name, None  # in the model store of a server, or not there
    return manifest.name, manifest.digest


def _keys(row: ExtractorRow) -> list[str]:
    return [f"{row.blobs}/{name}" for name in row.manifest["files"]]


def _verify(folder: Path, row: ExtractorRow) -> None:
    manifest = Manifest.load(folder)
    if manifest.digest != row.digest:
        raise ManifestError(f"{folder}: expected the digest {row.digest}, found {manifest.digest}")
    manifest.verify_files(folder)
