"""The answers of a head, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated

from pydantic import BaseModel, Field

from service.schemas.errors import ItemProblem


class ClassProbability(BaseModel):
    label: str
    probability: float


class Outcome(BaseModel):
    label: Annotated[str, Field(description="The most probable class, also of an unknown input.")]
    probability: float
    unknown: Annotated[bool, Field(description="Whether the input is unlike every class of the head.")]
    typicality: Annotated[float, Field(description="Share of in-class inputs at least as unusual as this.")]
    probabilities: Annotated[
        list[ClassProbability],
        Field(description="Of the most probable classes; independent of each other in a multi-label head."),
    ]
    labels: Annotated[
        list[str] | None,
        Field(
            description="Only of a multi-label head: the classes with a probability of at least 0.5, most"
            " probable first; maybe none.",
            examples=[["cat", "indoor"]],
        ),
    ] = None
    none_probability: Annotated[
        float | None,
        Field(description="Only of a head that learned negatives: probability of none of the classes."),
    ] = None


class PredictionItem(Outcome):
    id: Annotated[str, Field(description="The caller's id or file name, else the sha256 of the input.")]
    index: Annotated[int, Field(description="Position of the input in the request.")]


class PredictAnswer(BaseModel):
    head: str
    version: int
    predictions: list[PredictionItem]
    rejected: list[ItemProblem]
    timings_ms: dict[str, float]
