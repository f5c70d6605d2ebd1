"""The answers of many heads, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated

from pydantic import BaseModel, Field

from service.schemas.errors import ItemProblem
from service.schemas.predictions import Outcome


class HeadOutcome(Outcome):
    """What one head says of one input."""

    head: Annotated[str, Field(examples=["pets"])]
    version: int


class PanelPrediction(BaseModel):
    id: Annotated[str, Field(description="The caller's id or file name, else the sha256 of the input.")]
    index: Annotated[int, Field(description="Position of the input in the request.")]
    heads: Annotated[
        list[HeadOutcome], Field(description="In the order of the names; those of a pattern by name.")
    ]


class SkippedHead(BaseModel):
    head: Annotated[str, Field(description="The name or pattern that was asked for.")]
    code: str
    message: str


class PanelAnswer(BaseModel):
    """What many heads say of the inputs."""

    predictions: list[PanelPrediction]
    rejected: Annotated[
        list[ItemProblem], Field(description="Inputs that cannot be used; with `on_error=skip`.")
    ]
    skipped: Annotated[
        list[SkippedHead], Field(description="Heads that cannot answer; with `on_error=skip`.")
    ]
    timings_ms: dict[str, float]
