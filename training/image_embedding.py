"""Image files -> rows of an extractor, on the CPU: with the cache on disk, and how long it takes.

A row is the embedding, followed by the taps if the extractor has any.

For commands that work on a folder. Serving has its own, see `service.embedding.extractor`. Knows no label and
no torch.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.embedding_cache import EmbeddingCache
from training.errors import InputError, ManifestError
from training.golden import GOLDEN_BOUND, Golden, rows_error
from training.manifest import FILES, TAPS_OUTPUT, Manifest
from training.preprocess import DEFAULT_LIMITS, DecodeLimits, decode_image

Floats = NDArray[np.float32]
Tell = Callable[[float], None]

# So many rows are lost at most when a command is stopped.
CHUNK = 64
MOST_TIMED = 40
WARM_UPS = 3


@dataclass(frozen=True)
class ImageEmbedder:
    """An extractor folder, loaded: each call runs on one thread, and many threads may call at once."""

    manifest: Manifest
    session: Any
    limits: DecodeLimits

    @classmethod
    def load(cls, folder: Path, *, limits: DecodeLimits = DEFAULT_LIMITS) -> "ImageEmbedder":
        """Load an extractor folder and embed its golden inputs.

        Raises
        ------
        ManifestError
            The folder is incomplete or altered, or the golden inputs give other rows than recorded.
        """
        manifest = Manifest.load(folder)
        manifest.verify_files(folder)
        embedder = cls(manifest, _session(folder / FILES.model), limits)
        golden = Golden.load(folder)
        found = np.stack([embedder.embed(embedder.decode(data)) for data in golden.inputs])
        error = rows_error(found, golden.rows, manifest.layer_dims)
        if not error <= GOLDEN_BOUND:
            raise ManifestError(
                f"extractor {manifest.name}: the golden inputs give other embeddings than recorded: "
                f"relative error {error:.2g}, allowed {GOLDEN_BOUND:g}"
            )
        return embedder

    def with_model(self, path: Path) -> "ImageEmbedder":
        """The same with the graph of a variant. Its rows are not those that the manifest's digest names."""
        return replace(self, session=_session(path))

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Image bytes to the network's input, (height, width, 3). Raises InputError."""
        return decode_image(data, self.manifest.preprocess, self.limits)

    def embed(self, image: NDArray[np.uint8]) -> Floats:
        """One decoded image to its row, (width,)."""
        graph = self.manifest
        names = [graph.output.name, *([TAPS_OUTPUT] if graph.taps else [])]
        outputs = self.session.run(names, {graph.input.name: image[np.newaxis]})
        row: Floats = np.concatenate(outputs, axis=1)[0]
        return row


@dataclass(frozen=True, eq=False)
class Embedded:
    """Rows of n images, float32 (n, width), and how many of them came from the cache."""

    rows: Floats
    cached: int


@dataclass(frozen=True)
class Timing:
    """Medians over `images` images, one at a time on one thread, in milliseconds; the files are in memory."""

    images: int
    decode_ms: float
    network_ms: float
    total_ms: float


def _session(model: Path) -> Any:
    from training.runtime import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def embed_images(
    embedder: ImageEmbedder,
    paths: Sequence[Path],
    keys: Sequence[bytes],
    cache_root: Path,
    *,
    threads: int = 1,
    tell: Tell | None = None,
) -> Embedded:
    """Embed image files, each once: what an earlier call has embedded comes from `cache_root`.

    Parameters
    ----------
    keys : the sha256 of each file, 32 bytes
    cache_root : the cache of each extractor is a folder in it, named by the digest
    tell : called with the fraction (0 to 1) that is done

    Raises
    ------
    InputError
        An image cannot be read, or is another than when its key was taken; what was embedded until then
        is kept.
    """
    cache = EmbeddingCache(cache_root / embedder.manifest.digest, embedder.manifest.width)
    known = cache.read()
    missing = [(path, key) for path, key in dict(zip(paths, keys, strict=True)).items() if key not in known]
    cached = len(paths) - len(missing)
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, len(missing), CHUNK):
            if tell is not None:
                tell((cached + start) / len(paths))
            chunk = missing[start : start + CHUNK]
            rows = np.stack(list(pool.map(lambda item: _embed_file(embedder, *item), chunk)))
            new = [key for _, key in chunk]
            cache.add(new, rows)
            known |= dict(zip(new, rows, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    if tell is not None:
        tell(1.0)
    return Embedded(np.stack([known[key] for key in keys]), cached)


def time_images(embedder: ImageEmbedder, paths: Sequence[Path], *, most: int = MOST_TIMED) -> Timing:
    """Median time of embedding an image on this machine, over at most `most` images spread evenly."""
    chosen = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)
    contents = [paths[index].read_bytes() for index in chosen]
    for data in contents[:WARM_UPS]:
        embedder.embed(embedder.decode(data))
    laps = [_lap(embedder, data) for data in contents]
    decode, network = zip(*laps, strict=True)
    return Timing(len(laps), median(decode), median(network), median(sum(lap) for lap in laps))


def _lap(embedder: ImageEmbedder, data: bytes) -> tuple[float, float]:
    start = perf_counter()
    image = embedder.decode(data)
    decoded = perf_counter()
    embedder.embed(image)
    return 1000 * (decoded - start), 1000 * (perf_counter() - decoded)


def _embed_file(embedder: ImageEmbedder, path: Path, key: bytes) -> Floats:
    data = path.read_bytes()
    if hashlib.sha256(data).digest() != key:
        raise InputError(f"{path} was changed meanwhile")
    return embedder.embed(embedder.decode(data))
