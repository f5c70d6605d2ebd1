"""The answers about extractors, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any, Literal

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


class ExtractorRef(BaseModel):
    name: Annotated[str, Field(examples=["efficientnet-lite0"])]
    digest: Annotated[str, Field(description="sha256 of the canonical manifest, or of a variant's record.")]


class ExtractorInfo(ExtractorRef):
    modality: Annotated[str, Field(examples=["image"])]
    architecture: str
    dim: Annotated[int, Field(description="Length of an embedding.", examples=[1280])]
    taps: Annotated[
        list[TapInfo], Field(description="Earlier layers of the network that heads may use (`layers`).")
    ]
    provider: Annotated[
        str | None, Field(description="Null if it is not loaded.", examples=["CPUExecutionProvider"])
    ]
    precision: Annotated[
        Literal["fp32", "int8", "fp16"],
        Field(description="A variant has a digest of its own (`headstart quantise`).", examples=["fp32"]),
    ]
    gate: Annotated[
        GateInfo | None, Field(description="What the variant keeps of the fp32 extractor; null for fp32.")
    ]
    default: bool
    loaded: Annotated[bool, Field(description="Whether the process that answers has it in memory.")]
    origin: Annotated[
        dict[str, Any],
        Field(
            description="`kind`: `settings` (HEADSTART_EXTRACTORS), `added` or `finetuned`.",
            examples=[{"kind": "settings"}],
        ),
    ]
    weights: dict[str, Any]
    preprocess: dict[str, Any]


class ExtractorList(BaseModel):
    extractors: list[ExtractorInfo]
