"""The answer to a call for checks, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class LabelErrorItem(BaseModel):
    id: str
    label: Annotated[str, Field(description="The label that the example has.")]
    suggested: Annotated[str, Field(description="The most probable other label.")]
    probability_given: Annotated[float, Field(description="Calibrated, by heads that had not seen it.")]
    probability_suggested: float
    score: Annotated[float, Field(description="Probability that the label is wrong.")]


class DuplicateGroup(BaseModel):
    ids: Annotated[list[str], Field(description="Two or more examples that are copies of each other.")]
    labels: Annotated[list[str], Field(description="Their labels, in the same order.")]
    similarity: Annotated[float, Field(description="Lowest cosine between embeddings that links them.")]
    conflicting: Annotated[bool, Field(description="Whether the labels differ.")]


class OutlierItem(BaseModel):
    id: str
    label: str
    typicality: Annotated[float, Field(description="Share of examples that are less like any class.")]


class ChecksAnswer(BaseModel):
    """What is probably wrong with the examples of a head, worst first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "head": "pets",
                "version": 3,
                "examples": 200,
                "tuned_on": 0,
                "totals": {"label_errors": 1, "duplicates": 1, "outliers": 1},
                "label_errors": [
                    {
                        "id": "8f14e45fceea167a5a36dedd4bea2543",
                        "label": "cat",
                        "suggested": "dog",
                        "probability_given": 0.02,
                        "probability_suggested": 0.98,
                        "score": 0.98,
                    }
                ],
                "duplicates": [
                    {
                        "ids": ["c9f0f895fb98ab9159f51fd0297e236d", "45c48cce2e2d7fbdea1afc51c7c6ad26"],
                        "labels": ["cat", "dog"],
                        "similarity": 0.997,
                        "conflicting": True,
                    }
                ],
                "outliers": [{"id": "d3d9446802a44259755d38e6d163e820", "label": "dog", "typicality": 0.001}],
                "timings_ms": {"load": 4.1, "check": 38.2, "total": 42.3},
            }
        }
    )

    head: str
    version: Annotated[int | None, Field(description="The published version; null if there is none.")]
    examples: Annotated[int, Field(description="Examples that were checked.")]
    tuned_on: Annotated[
        int,
        Field(
            description="Examples that the extractor was trained on. It takes them for what their labels say,"
            " so they are looked at for duplicates only."
        ),
    ]
    totals: Annotated[dict[str, int], Field(description="Length of each list without `limit`.")]
    label_errors: Annotated[
        list[LabelErrorItem], Field(description="Examples for which another label is more probable.")
    ]
    duplicates: list[DuplicateGroup]
    outliers: Annotated[list[OutlierItem], Field(description="Examples of a typicality below 0.05.")]
    timings_ms: dict[str, float]
