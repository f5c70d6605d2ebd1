"""What clients may ask of the REST surface: path and query parameters, and small bodies, as pydantic models.

Knows names, types and bounds. Does not know what they do.
"""

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.store import SINGLE_LABEL, Task
from training.heads import AUTO
from training.heads.layers import EMBEDDING

MAX_PAGE = 1000
MAX_LABEL = 256
LEFT_OUT = "Left out: as in the newest version of the head; PUT starts from the default."

HeadName = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=128,
        description="Name of a head: letters, digits, dot, underscore and dash.",
        examples=["pets"],
    ),
]
VersionNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of a version.", examples=[1])]
ExampleId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of an example.", examples=["0" * 32])
]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a job.", examples=["0" * 32])]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most rows of one page.")]
Cursor = Annotated[
    str | None, Query(max_length=256, description="The `next` of the page before.", examples=["pets"])
]
Position = Annotated[
    int | None, Query(ge=1, le=2**63 - 1, description="The `next` of the page before.", examples=[100])
]
OnError = Annotated[
    Literal["fail", "skip"],
    Field(description="`fail`: one bad input refuses the whole request. `skip`: the good ones are used."),
]


class Parameters(BaseModel):
    """Query parameters, or the same names beside the inputs of a JSON body."""

    model_config = ConfigDict(extra="forbid")


def _left_to_choose(value: object) -> object:
    return None if value == AUTO else value


def _or_auto(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"const": AUTO})


class FitParameters(Parameters):
    """How a head is fitted."""

    regularisation: Annotated[
        float | None,
        Field(
            ge=1e-6,
            le=1e6,
            description=f"Strength of the L2 penalty; `auto`, the default: chosen from the data. {LEFT_OUT}",
            examples=[1.0],
            json_schema_extra=_or_auto,
        ),
        BeforeValidator(_left_to_choose),
    ] = None
    transform: Annotated[
        Literal["signed_root_l2", "l2", "auto"] | None,
        Field(
            description=f"From embeddings to features; `auto`, the default: chosen from the data. {LEFT_OUT}",
            examples=["signed_root_l2"],
        ),
    ] = None
    unknown_rate: Annotated[
        float | None,
        Field(
            ge=0,
            le=0.5,
            description="Share of in-class inputs that may be called unknown; the default is 0.05. The"
            f" `threshold` of the version before makes way for it. {LEFT_OUT}",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Typicality below which an input is unknown; `auto`, the default: from"
            f" `unknown_rate`. {LEFT_OUT}",
            json_schema_extra=_or_auto,
        ),
        BeforeValidator(_left_to_choose),
    ] = None
    layers: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*$",
            max_length=1024,
            description="Layers of the extractor that the head uses, with commas between them; `auto` chooses"
            f" them from the data. The default is `{EMBEDDING}`. {LEFT_OUT}",
            examples=["auto", "embedding,stage5"],
        ),
    ] = None


class TrainParameters(FitParameters):
    """How a version is made."""

    publish: Annotated[bool, Field(description="Serve the new version at once.")] = True


class SupportParameters(TrainParameters):
    """How a change of the support set is carried out."""

    train: Annotated[bool, Field(description="Train a new version from the changed support set.")] = True
    on_error: OnError = "fail"
    label: Annotated[
        str | None,
        Field(max_length=MAX_LABEL, description="Label of inputs that do not carry one (a raw body)."),
    ] = None


class CreateParameters(SupportParameters):
    """How a head is created."""

    task: Annotated[
        Task,
        Field(description="Whether an input has one label or any number of them.", examples=["multi_label"]),
    ] = SINGLE_LABEL

    keep_inputs: Annotated[
        bool | None,
        Field(
            description="Whether the original bytes of the examples are kept, for fine-tuning and for another"
            " extractor. Left out: as the head does already, for a new one HEADSTART_KEEP_INPUTS.",
            examples=[False],
        ),
    ] = None

    extractor: Annotated[
        str | None, Field(max_length=128, description="Name of a loaded extractor; left out: the default.")
    ] = None


class AddParameters(SupportParameters):
    """How examples are added."""


class PredictParameters(Parameters):
    """How inputs are predicted."""

    version: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="Number of a version; left out: the published one.")
    ] = None
    top_k: Annotated[int, Field(ge=1, le=1000, description="Most probabilities of one prediction.")] = 10
    threshold: Annotated[
        float | None,
        Field(
            ge=0, le=1, description="Typicality below which an input is unknown; left out: the version's own."
        ),
    ] = None
    on_error: OnError = "fail"


def _apart(value: object) -> object:
    """Names that are repeated, separated by commas, or both."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        return value
    return [name for text in listed for part in text.split(",") if (name := part.strip())]


class PanelParameters(Parameters):
    """How inputs are predicted by many heads."""

    heads: Annotated[
        list[Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*\*?|\*)$", max_length=129)]],
        Field(
            description="Names of heads, with commas between them or repeated; `line1.*` is every published"
            " head whose name begins so, `*` every published head. One that is named twice answers once.",
            examples=[["pets", "line1.*"]],
        ),
        BeforeValidator(_apart),
    ] = []
    top_k: Annotated[int, Field(ge=1, le=1000, description="Most probabilities of one prediction.")] = 1
    threshold: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Typicality below which an input is unknown; left out: each version's own.",
        ),
    ] = None
    on_error: Annotated[
        Literal["fail", "skip"],
        Field(
            description="`fail`: one head or input that cannot be used refuses the whole request. `skip`: the"
            " others are used."
        ),
    ] = "fail"


class EvaluateParameters(Parameters):
    """How a head is evaluated."""

    version: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="Number of a version; left out: the published one.")
    ] = None
    threshold: Annotated[
        float | None,
        Field(
            ge=0, le=1, description="Typicality below which an input is unknown; left out: the version's own."
        ),
    ] = None
    label: Annotated[
        str | None,
        Field(max_length=MAX_LABEL, description="Label of inputs that do not carry one (a raw body)."),
    ] = None
    on_error: OnError = "fail"


class EmbeddingParameters(Parameters):
    """How inputs are embedded (the names of the OpenAI API)."""

    model: Annotated[
        str | None, Field(max_length=128, description="Name of a loaded extractor; left out: the default.")
    ] = None
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="`base64`: little-endian float32.")
    ] = "float"
    dimensions: Annotated[
        int | None, Field(ge=1, le=2**20, description="Only the extractor's own number of dimensions.")
    ] = None
    user: Annotated[str | None, Field(max_length=512, description="Accepted and ignored.")] = None


Classes = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]] | None,
    Field(
        min_length=1,
        max_length=100_000,
        description="Classes that take part; negatives always do. Left out: all.",
        examples=[["cat", "dog"]],
    ),
]


class TrainRequest(TrainParameters):
    """Body of a training request."""

    classes: Classes = None


class MoveRequest(FitParameters):
    """Body of a move to another extractor."""

    extractor: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            description="Name of the extractor to move to, loaded or registered.",
            examples=["resnet50"],
        ),
    ]
    switch: Annotated[
        Literal["better", "always", "never"],
        Field(
            description="When the head goes there and serves the new version: if its held-out answers are"
            " better beyond doubt (the interval of the paired difference is above zero), always, or never."
        ),
    ] = "better"
    classes: Classes = None


class RelabelRequest(BaseModel):
    """Body of a relabelling."""

    model_config = ConfigDict(extra="forbid")

    label: Annotated[str, Field(min_length=1, max_length=MAX_LABEL, examples=["dog"])]


class FinetuneRequest(BaseModel):
    """Body of a fine-tuning: how, and whether its version may be published by itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    strategy: Annotated[
        Literal["head", "last-blocks", "full", "scratch", "conservative", "recalibrate"],
        Field(
            description="`head`: a new head alone. `last-blocks`: the later layers. `full`: all layers."
            " `scratch`: all layers from a random start. `conservative`: all but the first stage,"
            " held to what the source answers."
            " `recalibrate`: the statistics of batch normalisation only."
        ),
    ] = "last-blocks"
    keep: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            description="For `last-blocks`: the last stage that stays as it is; `auto` decides.",
        ),
    ] = "auto"
    epochs: Annotated[int, Field(ge=0, le=1000, description="At most; 0: by the number of examples.")] = 0
    learning_rate: Annotated[
        float,
        Field(ge=0, le=1, description="Largest rate, from 1e-6; 0: the strategy's own.", examples=[0.001]),
    ] = 0.0
    batch_size: Annotated[int, Field(ge=2, le=1024, description="Inputs of one step.")] = 32
    augment: Annotated[bool, Field(description="Whether inputs are shifted, scaled and mirrored.")] = True
    held_out: Annotated[
        float,
        Field(ge=0.1, le=0.5, description="Share of the inputs that judge the result, never trained on."),
    ] = 0.25
    patience: Annotated[
        int, Field(ge=1, le=1000, description="Epochs without a better loss after which training stops.")
    ] = 5
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Decides the split and all else.")] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Where the worker trains; `cuda` insists on it.")
    ] = "auto"
    publish: Annotated[
        Literal["better", "never"],
        Field(description="`better`: publish the version if it beats the frozen extractor beyond doubt."),
    ] = "better"
