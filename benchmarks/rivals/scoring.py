"""What every rival does with a photograph: decode, embed and score it, with the parts of the service itself.

The environment names the extractor folder (RIVAL_EXTRACTOR) and the head file (RIVAL_HEAD). Knows no
framework.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.embedded import embedder
from training.heads import load_head

Score = Callable[[bytes], dict[str, Any]]


def scorer() -> Score:
    """From the bytes of a photograph to what is answered, on one thread."""
    embed = embedder(Path(os.environ["RIVAL_EXTRACTOR"]))
    head = load_head(Path(os.environ["RIVAL_HEAD"]).read_bytes())

    def score(data: bytes) -> dict[str, Any]:
        found = head.predict(embed(data)[None, :])
        return {
            "label": found.labels[0],
            "unknown": bool(found.unknown[0]),
            "typicality": float(found.typicality[0]),
            "probabilities": dict(zip(found.classes, map(float, found.probabilities[0]), strict=True)),
        }

    return score
