"""What every rival does with a photograph: decode, embed and score it.

Network and head are those of the service. Photographs are opened by Pillow, as the guides of these servers
do, or by the decoder of the service. The environment names the extractor folder (RIVAL_EXTRACTOR), the head
file (RIVAL_HEAD) and the decoder (RIVAL_DECODER: pillow or headstart). Knows no framework.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.embedded import pixel_embedder
from benchmarks.large_photograph import plain
from training.heads import load_head
from training.manifest import Manifest
from training.preprocess import decode_image

Score = Callable[[bytes], dict[str, Any]]


def scorer() -> Score:
    """From the bytes of a photograph to what is answered, on one thread."""
    extractor = Path(os.environ["RIVAL_EXTRACTOR"])
    spec, embed = Manifest.load(extractor).preprocess, pixel_embedder(extractor)
    decode = {"pillow": plain, "headstart": decode_image}[os.environ["RIVAL_DECODER"]]
    head = load_head(Path(os.environ["RIVAL_HEAD"]).read_bytes())

    def score(data: bytes) -> dict[str, Any]:
        found = head.predict(embed(decode(data, spec))[None, :])
        return {
            "label": found.labels[0],
            "unknown": bool(found.unknown[0]),
            "typicality": float(found.typicality[0]),
            "probabilities": dict(zip(found.classes, map(float, found.probabilities[0]), strict=True)),
        }

    return score
