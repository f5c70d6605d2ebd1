"""Advice on transfer for a folder of images: embeds them, with the cache on disk. Knows no command line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.advise import Advice, SourceKnowledge, advise
from training.image_embedding import ImageEmbedder, Timing, embed_images, time_images
from training.image_folder import ImageFolder
from training.preprocess import DEFAULT_LIMITS, DecodeLimits
from training.tuned import TunedOn
from training.usable_images import LeftOut, check_images

Progress = Callable[[str, float], None]

CHECKED, EMBEDDED, MEASURED = 0.15, 0.85, 0.9  # shares of the whole, about as the time is spent
MOST_TIMED = 10


@dataclass(frozen=True, eq=False)
class FolderAdvice:
    """Advice for a folder, with what was not used and how long an image takes on this machine."""

    folder: str
    extractor: str
    digest: str
    advice: Advice
    left_out: tuple[LeftOut, ...]
    timing: Timing

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return {
            "folder": self.folder,
            "extractor": {"name": self.extractor, "digest": self.digest},
            "left_out": [{"path": str(left.path), "reason": left.reason} for left in self.left_out],
            "timing": vars(self.timing).copy(),
            **self.advice.as_dict(),
        }


def advise_folder(
    images: ImageFolder,
    extractor: Path,
    *,
    cache_root: Path,
    limits: DecodeLimits = DEFAULT_LIMITS,
    threads: int = 1,
    progress: Progress,
) -> FolderAdvice:
    """Embed the images with an extractor and advise on them.

    Parameters
    ----------
    images : at least two classes, and maybe `__none__`
    extractor : folder of an extractor
    cache_root : folder of cached embeddings, with which a command that was stopped goes on
    threads : threads that embed; the time is measured on one
    progress : called with the stage that begins and the fraction (0 to 1) that is done

    Raises
    ------
    TooFewClassesError
        Fewer than two classes have an image that can be read.
    ManifestError
        The extractor is incomplete or altered.
    """
    progress("load the extractor", 0.0)
    embedder = ImageEmbedder.load(extractor, limits=limits)
    usable = check_images(
        images,
        limits=limits,
        threads=threads,
        tell=lambda done: progress("read the images", CHECKED * done),
    )
    embedded = embed_images(
        embedder,
        usable.paths,
        usable.keys,
        cache_root,
        threads=threads,
        tell=lambda done: progress("embed", CHECKED + (EMBEDDED - CHECKED) * done),
    )
    progress("measure the time", EMBEDDED)
    timing = time_images(embedder, usable.paths, most=MOST_TIMED)
    progress("measure heads", MEASURED)
    manifest = embedder.manifest
    advice = advise(
        embedded.rows,
        usable.labels,
        layer_dims=manifest.layer_dims,
        extractor_digest=manifest.digest,
        source=SourceKnowledge.load(extractor, manifest),
        embed_ms=timing.network_ms,
        unseen=TunedOn.load(extractor).unseen(key.hex() for key in usable.keys),
    )
    progress("done", 1.0)
    return FolderAdvice(str(images.folder), manifest.name, manifest.digest, advice, usable.left_out, timing)
