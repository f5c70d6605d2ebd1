"""The answer to a move of a head to another extractor, as pydantic models. Knows names and types only."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.schemas.extractors import ExtractorRef
from service.schemas.heads import TrainingWarning
from service.store import Task


class InputCounts(BaseModel):
    total: int
    embedded: Annotated[int, Field(description="Inputs that the extractor had to embed.")]
    cached: Annotated[int, Field(description="Inputs whose embedding was cached.")]


class PreviousVersion(BaseModel):
    version: Annotated[int | None, Field(description="The published version before; null if there was none.")]
    extractor: ExtractorRef


class ReportedAccuracy(BaseModel):
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    held_out: int | None


class PairedAccuracy(BaseModel):
    """Held-out accuracy with both extractors on the same examples."""

    held_out: int
    before: float
    after: float
    difference: float
    low: Annotated[float, Field(description="Lower end of the 95 % interval of the difference (Newcombe).")]
    high: Annotated[float, Field(description="Upper end of it.")]


class ExtractorComparison(BaseModel):
    before: Annotated[ReportedAccuracy | None, Field(description="From the report of the published version.")]
    after: Annotated[ReportedAccuracy, Field(description="From the report of the new version.")]
    paired: Annotated[
        PairedAccuracy | None,
        Field(description="Null if nothing can be held out, or an extractor was tuned on these examples."),
    ]
    better: Annotated[
        bool | None,
        Field(description="Whether the new one is better beyond doubt; null if that cannot be told."),
    ]


class MovedAnswer(BaseModel):
    """The outcome of a move to another extractor."""

    head: Annotated[str, Field(examples=["pets"])]
    version: Annotated[int, Field(description="The new version, on the other extractor.")]
    switched: Annotated[bool, Field(description="Whether it is published and the head on that extractor.")]
    task: Task
    classes: list[str]
    layers: Annotated[list[str], Field(description="Layers of that extractor that the new version uses.")]
    extractor: Annotated[ExtractorRef, Field(description="The extractor of the new version.")]
    previous: PreviousVersion
    inputs: InputCounts
    report: Annotated[dict[str, Any], Field(description="Cross-validated quality of the new version.")]
    comparison: ExtractorComparison
    warnings: list[TrainingWarning]
    timings_ms: dict[str, float]
