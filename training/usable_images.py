"""The images of a labelled folder that can be learned from: readable, each only once. Knows no extractor."""

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from training.errors import InputError, TooFewClassesError
from training.heads.support import NEGATIVE_LABEL
from training.image_file import load_image
from training.image_folder import ImageFolder
from training.preprocess import DEFAULT_LIMITS, DecodeLimits

Tell = Callable[[float], None]


@dataclass(frozen=True)
class LeftOut:
    """An image that is not used, and why, in the user's words."""

    path: Path
    reason: str


@dataclass(frozen=True)
class UsableImages:
    """n images, the label and the sha256 (32 bytes) of each; and those that were left out."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    keys: tuple[bytes, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each label, by label."""
        return dict(sorted(Counter(self.labels).items()))


def check_images(
    images: ImageFolder, *, limits: DecodeLimits = DEFAULT_LIMITS, threads: int = 1, tell: Tell | None = None
) -> UsableImages:
    """Decode every image once; leave out what is broken and what has the bytes of an image before it.

    A copy would stand on both sides of a split: in the support set and among the images that test it.

    Parameters
    ----------
    tell : callable, optional
        Called with the fraction (0 to 1) that is done.

    Raises
    ------
    TooFewClassesError
        Fewer than two classes have an image that can be used.
    """
    seen: dict[bytes, Path] = {}
    kept: list[tuple[Path, str, bytes]] = []
    left_out = [LeftOut(path, "it lies in no sub-folder, so it has no class") for path in images.loose]
    with ThreadPoolExecutor(threads) as pool:
        checked = pool.map(lambda path: _check(path, limits), images.paths)
        for number, (path, label, outcome) in enumerate(
            zip(images.paths, images.labels, checked, strict=True)
        ):
            if isinstance(outcome, str):
                left_out.append(LeftOut(path, outcome))
            elif outcome in seen:
                left_out.append(LeftOut(path, f"the same file as {seen[outcome].relative_to(images.folder)}"))
            else:
                seen[outcome] = path
                kept.append((path, label, outcome))
            if tell is not None:
                tell((number + 1) / len(images.paths))
    classes = {label for _, label, _ in kept} - {NEGATIVE_LABEL}
    if len(classes) < 2:
        found = f"only {classes.pop()}" if classes else "none"
        reasons = "".join(f"\n  {left.path}: {left.reason}" for left in left_out[:10])
        raise TooFewClassesError(
            f"{images.folder}: expected readable images in at least two classes, found {found}{reasons}"
        )
    paths, labels, keys = zip(*kept, strict=True)
    return UsableImages(paths, labels, keys, tuple(left_out))


def _check(path: Path, limits: DecodeLimits) -> bytes | str:
    """The sha256 of an image that can be read, or what is wrong with it."""
    try:
        data = path.read_bytes()
        load_image(data, limits, None)
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return hashlib.sha256(data).digest()
