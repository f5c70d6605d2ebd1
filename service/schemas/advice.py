"""The answer to a call for advice, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.schemas.extractors import ExtractorRef
from service.schemas.heads import TrainingWarning


class NextStep(BaseModel):
    """A REST call."""

    method: Annotated[str, Field(examples=["POST"])]
    path: Annotated[str, Field(examples=["/v1/heads/pets/train"])]
    query: dict[str, str]
    body: dict[str, str] | None


class ExpectedGain(BaseModel):
    """Accuracy over that of a head on the embedding, as a share; null where nothing is known."""

    basis: Annotated[
        Literal["none", "measured", "other_data"],
        Field(description="`measured`: cross-validated here. `other_data`: a range from a case elsewhere."),
    ]
    estimate: float | None
    low: float | None
    high: float | None
    note: str


class ExpectedCost(BaseModel):
    examples: int
    epochs: Annotated[int, Field(description="Most passes over the images; 0 where no layer is trained.")]
    minutes: Annotated[float | None, Field(description="On one core of this machine, roughly.")]
    note: str


class PlanItem(BaseModel):
    strategy: Literal["head", "layers", "last-blocks", "full", "conservative"]
    layers: Annotated[
        list[str] | str | None,
        Field(description="Layers of the head, or `auto`; null where layers of the network are trained."),
    ]
    what: Annotated[str, Field(description="The strategy in words.")]
    gain: ExpectedGain
    cost: ExpectedCost
    next: Annotated[NextStep, Field(description="The call that carries it out.")]


class AdviceAnswer(BaseModel):
    """Which case of transfer the examples are, and what to do."""

    head: Annotated[str, Field(examples=["pets"])]
    version: Annotated[int | None, Field(description="The published version; null if there is none.")]
    extractor: ExtractorRef
    scenario: Annotated[
        int | None,
        Field(
            description="1: small and similar. 2: small and dissimilar. 3: large and dissimilar. 4: large and"
            " similar. Null if the similarity cannot be told.",
            ge=1,
            le=4,
        ),
    ]
    size: Literal["small", "large"]
    similarity: Annotated[
        Literal["high", "low"] | None, Field(description="To the images the extractor was trained on.")
    ]
    similarity_confidence: Annotated[float, Field(ge=0.5, le=1)]
    enough_data: Annotated[
        bool, Field(description="False if heads are not better than guesses beyond doubt.")
    ]
    summary: Annotated[str, Field(description="The advice in a few sentences.")]
    recommended: PlanItem
    alternatives: list[PlanItem]
    reasons: list[str]
    warnings: list[TrainingWarning]
    figures: Annotated[dict[str, Any], Field(description="Everything that was measured.")]
    timings_ms: dict[str, float]
