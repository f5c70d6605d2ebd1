"""Compare pretrained networks on the images of a folder: accuracy of heads, time and size.

Exports what is not exported, which is when torch is imported. Knows no command line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.backbones.catalogue import CATALOGUE, WeightsChoice, entry_of
from training.comparison import Candidate, Comparison, Unavailable
from training.errors import HeadstartError, ManifestError, SupportSetError
from training.export import export_extractor
from training.heads.support import NEGATIVE_LABEL
from training.image_embedding import ImageEmbedder, embed_images, time_images
from training.image_folder import ImageFolder
from training.manifest import FILES, Manifest
from training.preprocess import DEFAULT_LIMITS, DecodeLimits
from training.shot_accuracy import feasible_shots, measure_shots
from training.tuned import TunedOn
from training.usable_images import UsableImages, check_images

Progress = Callable[[str, float], None]

# Shares of the whole, about as the time is spent.
CHECK_SHARE = 0.05
EXPORTED, EMBEDDED, TIMED = 0.25, 0.85, 0.9


@dataclass(frozen=True)
class Source:
    """Where the extractor of a network lies, and from which weights it is made if it is not there.

    `choice` None takes the extractor that is in `folder` whatever its weights are; without one, the network's
    own weights.
    """

    name: str
    folder: Path
    choice: WeightsChoice | None = None


def compare_backbones(
    images: ImageFolder,
    names: Sequence[str],
    locate: Callable[[str], Source],
    *,
    cache_root: Path,
    shots: Sequence[int],
    seeds: int,
    limits: DecodeLimits = DEFAULT_LIMITS,
    threads: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Measure each network; one that cannot be had is reported and the others go on.

    Parameters
    ----------
    images : at least two classes; those of `__none__` are left out
    names : networks of the catalogue, or extractors that `locate` finds
    locate : the source of a name; what it raises is the reason that the network is unavailable
    cache_root : folder of cached embeddings, with which a comparison that was stopped goes on
    shots : numbers of examples of each class; those that the folder is too small for are left out
    seeds : number of draws of the examples
    threads : threads that embed; times are measured on one
    progress : called with the stage that begins and the fraction (0 to 1) that is done

    Raises
    ------
    SupportSetError
        The images are too few for any of `shots`.
    """
    tell = progress or _say_nothing
    tell("read the images", 0.0)
    usable = check_images(
        images.without(NEGATIVE_LABEL),
        limits=limits,
        threads=threads,
        tell=lambda done: tell("read the images", CHECK_SHARE * done),
    )
    feasible = feasible_shots(usable.counts, shots)
    measure = _Measurement(usable, cache_root, feasible, seeds, limits, threads)
    candidates, unavailable = [], []
    for number, name in enumerate(names):
        part = _part(tell, name, number, len(names))
        try:
            candidates.append(measure(locate(name), part))
        except (HeadstartError, OSError) as error:
            unavailable.append(Unavailable(name, str(error)))
    tell("done", 1.0)
    return Comparison(
        folder=str(images.folder),
        counts=usable.counts,
        left_out=usable.left_out,
        shots=feasible,
        shots_left_out=tuple(sorted(set(shots) - set(feasible))),
        seeds=seeds,
        candidates=tuple(sorted(candidates, key=lambda one: (-one.final.mean, one.timing.total_ms))),
        unavailable=tuple(unavailable),
    )


@dataclass(frozen=True)
class _Measurement:
    """What is the same for every network."""

    images: UsableImages
    cache_root: Path
    shots: tuple[int, ...]
    seeds: int
    limits: DecodeLimits
    threads: int

    def __call__(self, source: Source, tell: Progress) -> Candidate:
        _export(source, lambda stage, done: tell(f"export, {stage}", EXPORTED * done))
        embedder = ImageEmbedder.load(source.folder, limits=self.limits)
        images = self.images
        _require_unseen(source.folder, images)
        embedded = embed_images(
            embedder,
            images.paths,
            images.keys,
            self.cache_root,
            threads=self.threads,
            tell=lambda done: tell("embed", EXPORTED + (EMBEDDED - EXPORTED) * done),
        )
        tell("measure the time", EMBEDDED)
        timing = time_images(embedder, images.paths)
        manifest = embedder.manifest
        accuracies = measure_shots(
            np.ascontiguousarray(embedded.rows[:, : manifest.output.dim]),
            images.labels,
            extractor_digest=manifest.digest,
            shots=self.shots,
            seeds=self.seeds,
            tell=lambda done: tell("fit heads", TIMED + (1 - TIMED) * done),
        )
        return Candidate(
            name=source.name,
            digest=manifest.digest,
            weights=manifest.weights.source,
            dim=manifest.output.dim,
            size_bytes=(source.folder / FILES.model).stat().st_size,
            timing=timing,
            cached=embedded.cached,
            accuracies=accuracies,
        )


def _export(source: Source, tell: Progress) -> None:
    """Export a network unless it is there, with or without taps: heads may depend on what is there."""
    there, choice = _manifest(source.folder), source.choice
    if source.name not in CATALOGUE and choice is None:
        return
    if there is not None and (choice is None or choice.is_met_by(there.weights, entry_of(source.name))):
        return
    choice = choice or WeightsChoice()
    export_extractor(
        source.name,
        source.folder,
        weights_path=choice.path,
        weights_sha256=choice.sha256,
        random_seed=choice.random_seed,
        progress=tell,
    )


def _require_unseen(folder: Path, images: UsableImages) -> None:
    """Refuse an extractor that was trained on some of the images: it would look better than it is."""
    unseen = TunedOn.load(folder).unseen(key.hex() for key in images.keys)
    if unseen is not None:
        raise SupportSetError(
            f"it was trained on {unseen.count(False)} of these {len(unseen)} images, so that it would look "
            "better than it is: compare on images that it has not seen"
        )


def _manifest(folder: Path) -> Manifest | None:
    """The manifest of a complete extractor; None where there is none."""
    try:
        manifest = Manifest.load(folder)
        manifest.verify_files(folder)
    except ManifestError:
        return None
    return manifest


def _part(tell: Progress, name: str, number: int, total: int) -> Progress:
    """Progress of one network as that of the whole."""
    share = (1 - CHECK_SHARE) / total
    return lambda stage, done: tell(f"{name}, {stage}", CHECK_SHARE + share * (number + done))


def _say_nothing(stage: str, fraction: float) -> None:
    """Progress that nobody watches."""
