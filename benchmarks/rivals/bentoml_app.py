"""BentoML's native typed endpoint: the photograph as a file, a worker for each core."""

import os
from pathlib import Path
from typing import Annotated, Any

import bentoml

from benchmarks.rivals.scoring import scorer


@bentoml.service(
    workers=len(os.sched_getaffinity(0)),
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Photographs:
    """A JPEG in, JSON out."""

    def __init__(self) -> None:
        self.score = scorer()

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(
        self, image: Annotated[Path, bentoml.validators.ContentType("image/jpeg")], /
    ) -> dict[str, Any]:
        return self.score(image.read_bytes())
