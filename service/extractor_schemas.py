"""Parts of the answers about extractors, as pydantic models. Knows names and types only."""

from typing import Annotated

from pydantic import BaseModel, Field


class TapInfo(BaseModel):
    name: Annotated[str, Field(examples=["stage5"])]
    dim: Annotated[int, Field(examples=[112])]


class ShotInfo(BaseModel):
    """Accuracy of heads with so many examples of each class, on either rows; mean of the same draws."""

    shots: int
    fp32: float
    variant: float


class GateInfo(BaseModel):
    """The rows of a variant against those of the fp32 extractor, on images that did not calibrate it."""

    images: int
    cosines: Annotated[dict[str, float], Field(description="Mean cosine of each layer.")]
    least_cosine: Annotated[float, Field(description="Least cosine of an embedding.")]
    shots: list[ShotInfo]
    seeds: int
    passed: Annotated[bool, Field(description="Whether `HEADSTART_PRECISION=auto` serves it.")]
