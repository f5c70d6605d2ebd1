"""What an extractor knows of the images its network was trained on, without having them. Measures nothing."""

from dataclasses import dataclass
from pathlib import Path

from training.classifier import Classifier
from training.manifest import FILES, Manifest
from training.source import SourceStatistics


@dataclass(frozen=True, eq=False)
class SourceKnowledge:
    """The classifier that the network came with, and what its taps are on the source; None if not there."""

    classifier: Classifier | None
    statistics: SourceStatistics | None

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> "SourceKnowledge":
        """Read what the manifest lists of it in an extractor folder.

        Raises
        ------
        ManifestError
            A file is missing or holds something else.
        """
        return cls(
            Classifier.load(folder) if FILES.classifier in manifest.files else None,
            SourceStatistics.load(folder) if FILES.source in manifest.files else None,
        )


NOTHING = SourceKnowledge(None, None)
