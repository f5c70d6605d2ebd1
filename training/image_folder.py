"""A folder with a sub-folder for each class, as files and their labels. Reads no image."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from training.errors import NoExamplesError, TooFewClassesError
from training.heads.support import NEGATIVE_LABEL

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
SKIPPED_FOLDERS = frozenset({"__MACOSX"})


@dataclass(frozen=True)
class ImageFolder:
    """n image files and the label of each, ordered by label, then by path.

    The label is the name of the first sub-folder on the way to the image, however deep the image lies.
    `loose` are the images beside the sub-folders, which have no label.
    """

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    loose: tuple[Path, ...]

    @classmethod
    def read(cls, folder: Path) -> "ImageFolder":
        """List the images of a folder by the suffixes of their names.

        Raises
        ------
        NoExamplesError
            No sub-folder has an image.
        TooFewClassesError
            Only one class; images under `__none__` are of no class.
        """
        found = [(path.relative_to(folder).parts, path) for path in images_under(folder)]
        labelled = sorted((parts[0], path) for parts, path in found if len(parts) > 1)
        classes = {label for label, _ in labelled} - {NEGATIVE_LABEL}
        expected = "expected a sub-folder with images for each of at least two classes"
        if not labelled:
            raise NoExamplesError(f"{folder}: {expected}, found none")
        if len(classes) < 2:
            raise TooFewClassesError(
                f"{folder}: {expected}, found {', '.join(classes) or NEGATIVE_LABEL} alone"
            )
        return cls(
            folder=folder,
            paths=tuple(path for _, path in labelled),
            labels=tuple(label for label, _ in labelled),
            loose=tuple(path for parts, path in found if len(parts) == 1),
        )

    def without(self, label: str) -> "ImageFolder":
        """The same without the images of one label."""
        kept = [(path, other) for path, other in zip(self.paths, self.labels, strict=True) if other != label]
        return replace(self, paths=tuple(path for path, _ in kept), labels=tuple(other for _, other in kept))

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each label, by label; `__none__` is one of them if it has a folder."""
        return dict(sorted(Counter(self.labels).items()))


def images_under(folder: Path) -> tuple[Path, ...]:
    """Paths of all image files, however deep, ascending; hidden ones and `__MACOSX` are left out."""
    return tuple(
        sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and not _is_hidden(path.relative_to(folder)) and path.is_file()
        )
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in SKIPPED_FOLDERS for part in path.parts)
