"""Image files -> rows of an extractor on a Ray cluster, by Ray Data: an actor with a session on each core.

Actors read the files themselves, by the same paths, and get the extractor from here; rows come back and are
kept here, as those of `training.folder_embedding` are. What a worker that dies had in hand, another does.
Needs the extra `ray`, imported when it is called. Knows no label and no torch.
"""

import hashlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from training.embedding_cache import EmbeddingCache
from training.errors import ClusterError, InputError
from training.folder_embedding import EmbeddedFile, Keeping, UnusableFile
from training.image_embedding import ImageEmbedder
from training.manifest import Manifest
from training.preprocess import DEFAULT_LIMITS, DecodeLimits

Column = NDArray[Any]

BLOCK_IMAGES = 32  # of one task of an actor: about a second
COLUMNS = ("index", "sha256", "row", "reason")
LOCAL = "local"
CONNECT_TIMEOUT_S = 10
DEATHS_AT_START = 3  # actors that may die one after the other before any has loaded the extractor


def embed_files_on_ray(
    extractor: Path,
    paths: Sequence[Path],
    cache_root: Path,
    *,
    actors: int | None,
    address: str | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> Iterator[EmbeddedFile | UnusableFile]:
    """Embed files as they become done, in no order.

    Parameters
    ----------
    extractor : folder of an extractor, here
    paths : the same on each machine
    cache_root : the cache of each extractor is a folder in it, named by the digest
    actors : most actors, each on a core; None for one on each core of the cluster
    address : of a cluster that is there; None for one on this machine that ends with the call

    Raises
    ------
    ManifestError
        The extractor is incomplete or altered.
    ClusterError
        Ray is not installed, cannot be reached, or gave up. What was embedded until then is kept.
    """
    manifest = Manifest.load(extractor)
    manifest.verify_files(extractor)
    cache = EmbeddingCache(cache_root / manifest.digest, manifest.width)
    known = cache.read()
    keeping = Keeping(cache)
    try:
        with _cluster(address, actors) as ray:
            yield from keeping.kept(_outcomes(ray, extractor, paths, known, actors, limits))
    finally:
        keeping.flush()


@contextmanager
def _cluster(address: str | None, cores: int | None) -> Iterator[Any]:
    """Ray, connected, without its usage reports; its errors in one line."""
    # Both are read when it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(
            f"Ray is missing ({error}): install requirements/ray.txt, or the extra `ray`"
        ) from None
    if address is not None:
        _require_answer(address)
    own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address or LOCAL, log_to_driver=False, logging_level="error", **own)
        yield ray
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ClusterError(f"Ray gave up: {_first_line(error)}") from error
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address where nothing answers: Ray itself tries it for two minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        if place.port is not None:
            socket.create_connection((place.hostname, place.port), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Ray answers at {address}: {error}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _outcomes(
    ray: Any,
    extractor: Path,
    paths: Sequence[Path],
    known: Mapping[bytes, NDArray[np.float32]],
    actors: int | None,
    limits: DecodeLimits,
) -> Iterator[EmbeddedFile | UnusableFile]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = DEATHS_AT_START
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = -(-len(paths) // BLOCK_IMAGES)
    cores = actors or int(ray.cluster_resources().get("CPU", 1))
    files = {path.name: path.read_bytes() for path in extractor.iterdir() if path.is_file()}
    digests = np.frombuffer(b"".join(sorted(known)), "V32")
    rows = ray.data.from_items(
        [{"index": index, "path": str(path.absolute())} for index, path in enumerate(paths)],
        override_num_blocks=blocks,
    ).map_batches(
        FileEmbedder,
        batch_size=BLOCK_IMAGES,
        compute=ray.data.ActorPoolStrategy(size=max(1, min(cores, blocks))),
        num_cpus=1,
        fn_constructor_args=(ray.put(files), ray.put(digests), limits),
    )
    for batch in rows.iter_batches(batch_size=None, batch_format="numpy"):
        for index, sha256, row, reason in zip(*(batch[name] for name in COLUMNS), strict=True):
            if reason:
                yield UnusableFile(paths[index], reason)
            elif row:
                yield EmbeddedFile(paths[index], sha256.hex(), np.frombuffer(row, np.float32), cached=False)
            else:
                yield EmbeddedFile(paths[index], sha256.hex(), known[sha256], cached=True)


class FileEmbedder:
    """An actor: an extractor, loaded and checked, for files of its machine.

    Parameters
    ----------
    files : the files of the extractor's folder, by name, or a reference to them
    known : sha256 of the inputs whose rows are there, (n,) of 32 bytes each, or a reference to them
    """

    def __init__(self, files: Any, known: Any, limits: DecodeLimits) -> None:
        files, known = (_fetched(one) for one in (files, known))
        self._known = {one.tobytes() for one in known}
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            self._embedder = ImageEmbedder.load(Path(folder), limits=limits)

    def __call__(self, batch: dict[str, Column]) -> dict[str, Column]:
        """Columns of n files: `sha256`, and `row` in bytes, empty if it is known, or the `reason` why not."""
        found = [self._file(Path(path)) for path in batch["path"]]
        columns = (np.array(column, object) for column in zip(*found, strict=True))
        return {"index": batch["index"], **dict(zip(COLUMNS[1:], columns, strict=True))}

    def _file(self, path: Path) -> tuple[bytes, bytes, str]:
        try:
            data = path.read_bytes()
            key = hashlib.sha256(data).digest()
            if key in self._known:
                return key, b"", ""
            return key, self._embedder.embed(self._embedder.decode(data)).tobytes(), ""
        except InputError as error:
            return b"", b"", str(error)
        except OSError as error:
            return b"", b"", f"it cannot be read: {error.strerror}"


def _fetched(value: Any) -> Any:
    import ray

    return ray.get(value) if isinstance(value, ray.ObjectRef) else value
