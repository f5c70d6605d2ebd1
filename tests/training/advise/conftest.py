"""Rows of the evaluation sets by the real extractor, embedded once and kept beside the extractor."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from training.advise import SourceKnowledge
from training.image_embedding import ImageEmbedder, embed_images
from training.image_folder import ImageFolder
from training.manifest import Manifest

THREADS = 2


@dataclass(frozen=True, eq=False)
class Rows:
    """(n, width) float32 and the label of each."""

    rows: np.ndarray
    labels: np.ndarray

    def draw(self, seed: int, *, each: int | None = None, share: float | None = None) -> "Rows":
        """So many of each class, or that share of it, at random."""
        rng = np.random.default_rng(seed)
        chosen = []
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            count = each if share is None else round(share * len(members))
            chosen.append(rng.choice(members, count, replace=False))
        return self.take(np.concatenate(chosen))

    def take(self, chosen: np.ndarray) -> "Rows":
        return Rows(self.rows[chosen], self.labels[chosen])


@pytest.fixture(scope="session")
def manifest(lite0_folder: Path) -> Manifest:
    return Manifest.load(lite0_folder)


@pytest.fixture(scope="session")
def source(lite0_folder: Path, manifest: Manifest) -> SourceKnowledge:
    return SourceKnowledge.load(lite0_folder, manifest)


@pytest.fixture(scope="session")
def rows_of(lite0_folder: Path, data_root: Path) -> Callable[[str], Rows]:
    embedder = ImageEmbedder.load(lite0_folder)
    cache_root = lite0_folder.parent.parent / "cache" / "embeddings"

    @cache
    def embed(name: str) -> Rows:
        images = ImageFolder.read(data_root / name)
        keys = [hashlib.sha256(path.read_bytes()).digest() for path in images.paths]
        embedded = embed_images(embedder, images.paths, keys, cache_root, threads=THREADS)
        return Rows(embedded.rows, np.array(images.labels))

    return embed
