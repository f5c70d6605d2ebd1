"""Rows of one extractor on disk, by the sha256 of the input: a command that was stopped goes on.

A folder of small files, each complete or absent, so that many processes may add at once. Deleting any of them
costs time and nothing else. Knows no extractor and no image.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SHA256_BYTES = 32
_DAMAGES = (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class EmbeddingCache:
    """The cached rows of the extractor that `folder` is named after, each float32 (width,)."""

    folder: Path
    width: int

    def read(self) -> dict[bytes, Floats]:
        """All rows, by the 32 bytes of the input's sha256. A damaged file is removed."""
        found: dict[bytes, Floats] = {}
        for path in sorted(self.folder.glob("*.npz")):
            rows = self._rows(path)
            if rows is None:
                path.unlink(missing_ok=True)
            else:
                found |= rows
        return found

    def add(self, keys: list[bytes], added: Floats) -> None:
        """Keep n rows, float32 (n, width), under the sha256 of their inputs; durable on return."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        partial = self.folder / f".{name}.partial"
        try:
            with partial.open("wb") as stream:
                digests = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, SHA256_BYTES)
                np.savez(stream, allow_pickle=False, sha256=digests, rows=added)
                stream.flush()
                os.fsync(stream.fileno())
            partial.rename(self.folder / f"{name}.npz")
        finally:
            partial.unlink(missing_ok=True)

    def _rows(self, path: Path) -> dict[bytes, Floats] | None:
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                digests, found = arrays["sha256"], arrays["rows"]
        except _DAMAGES:
            return None
        if digests.shape != (len(found), SHA256_BYTES) or found.shape[1:] != (self.width,):
            return None
        return {digest.tobytes(): row for digest, row in zip(digests, found, strict=True)}
