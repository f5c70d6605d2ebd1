"""Which inputs an extractor was trained on. Knows no network.

What such an extractor says of these inputs flatters it: a head that is judged by them would be reported too
well. Fits therefore take them as examples, but never as held-out ones.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training.errors import ManifestError
from training.manifest import FILES


@dataclass(frozen=True)
class TunedOn:
    """sha256 (64 hex digits) of the bytes of each input that the layers were trained on."""

    inputs: frozenset[str] = frozenset()

    @classmethod
    def of(cls, keys: Iterable[str]) -> "TunedOn":
        return cls(frozenset(keys))

    def __or__(self, other: "TunedOn") -> "TunedOn":
        """The inputs that one of two extractors, or one that was trained twice, was trained on."""
        return TunedOn(self.inputs | other.inputs)

    def unseen(self, keys: Iterable[str]) -> list[bool] | None:
        """For each input whether the extractor has not been trained on it; None if it was on none."""
        found = [key not in self.inputs for key in keys]
        return None if all(found) else found

    def save(self, folder: Path) -> None:
        """Write `tuned.json`; the same inputs always give the same bytes."""
        text = json.dumps(sorted(self.inputs), indent=0) + "\n"
        (folder / FILES.tuned).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TunedOn":
        """Read `tuned.json` of an extractor folder; no inputs if it has none.

        Raises
        ------
        ManifestError
            The file holds something else.
        """
        path = folder / FILES.tuned
        if not path.is_file():
            return cls()
        try:
            keys = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ManifestError(f"{path} cannot be read: {error}") from error
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ManifestError(f"{path}: expected a list of sha256 digests")
        return cls.of(keys)
