"""The answers of the REST surface, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.extractor_schemas import GateInfo, TapInfo
from service.store import Task


class ItemProblem(BaseModel):
    index: int
    id: str | None
    label: str | None
    code: str
    message: str


class ErrorDetail(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: Annotated[str, Field(examples=["head_not_found"])]
    message: Annotated[str, Field(examples=["there is no head 'pets'"])]
    param: Annotated[str | None, Field(examples=["name"])]
    request_id: Annotated[str, Field(examples=["4f1c0a6d2b7e4c53"])]
    items: Annotated[list[ItemProblem], Field(description="The bad inputs of a batch, by index.")] = []


class ErrorAnswer(BaseModel):
    """Every answer other than 2xx."""

    error: ErrorDetail


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


class EmbeddingItem(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(BaseModel):
    """The OpenAI shape, with what the cache did and how long it took."""

    object: Literal["list"]
    model: str
    data: list[EmbeddingItem]
    usage: EmbeddingUsage
    embedded: int
    cached: int
    timings_ms: dict[str, float]


KeepInputs = Annotated[bool, Field(description="Whether the original bytes of examples are kept.")]


class ExampleCounts(BaseModel):
    total: Annotated[
        int, Field(description="Examples of the support set now; each label of an input is one.")
    ]
    added: Annotated[int, Field(description="Examples that were not there before.")]
    duplicates: Annotated[int, Field(description="Those that were there already under the same label.")]
    embedded: Annotated[int, Field(description="Inputs that the extractor had to embed.")]
    cached: Annotated[int, Field(description="Inputs whose embedding was cached.")]
    rejected: list[ItemProblem]
    ids: Annotated[list[str], Field(description="Ids of the added examples, in order.")]


class TrainingWarning(BaseModel):
    code: str
    message: str


class TaughtAnswer(BaseModel):
    """The outcome of a change of a support set."""

    head: Annotated[str, Field(examples=["pets"])]
    version: Annotated[int | None, Field(description="The new version; null if none was trained.")]
    published: Annotated[bool, Field(description="Whether that version is served now.")]
    task: Task
    keep_inputs: KeepInputs
    classes: list[str]
    extractor: ExtractorRef
    layers: Annotated[list[str] | None, Field(description="Layers that the new version uses.")]
    examples: ExampleCounts
    report: Annotated[dict[str, Any] | None, Field(description="Cross-validated quality of the new version.")]
    warnings: list[TrainingWarning]
    timings_ms: dict[str, float]


class ClassCount(BaseModel):
    label: str
    examples: int


class HeadSummary(BaseModel):
    head: str
    task: Task
    extractor: ExtractorRef
    published_version: int | None
    last_version: int | None
    classes: list[ClassCount]
    negatives: Annotated[int, Field(description="Examples of none of the classes (label `__none__`).")]
    examples: Annotated[int, Field(description="All examples; each label of an input is one.")]
    keep_inputs: KeepInputs
    created_at: str
    updated_at: str
    published_classes: Annotated[
        list[str], Field(description="Classes that the published version tells apart; none without one.")
    ]


class HeadDescription(HeadSummary):
    up_to_date: Annotated[
        bool, Field(description="Whether the published version was trained from the support set as it is.")
    ]
    layers: Annotated[list[str] | None, Field(description="Layers that the published version uses.")]
    report: dict[str, Any] | None
    warnings: list[TrainingWarning]


class HeadPage(BaseModel):
    heads: list[HeadSummary]
    next: str | None


class ExampleInfo(BaseModel):
    id: str
    label: str
    source_id: Annotated[str | None, Field(description="The caller's id or file name.")]
    sha256: str
    size_bytes: int
    created_at: str
    kept: Annotated[bool, Field(description="Whether its original bytes are kept: `.../input` gives them.")]


class ExamplePage(BaseModel):
    examples: list[ExampleInfo]
    next: int | None


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


class VersionSummary(BaseModel):
    version: int
    published: bool
    classes: list[str]
    examples: int
    extractor: Annotated[ExtractorRef, Field(description="The extractor that it was trained on.")]
    parent_version: int | None
    accuracy: float | None
    layers: Annotated[list[str], Field(description="Layers of the extractor that it uses.")]
    imported: Annotated[bool, Field(description="Whether it came as a head file.")]
    created_at: str


class VersionPage(BaseModel):
    versions: list[VersionSummary]
    next: int | None


class VersionDescription(VersionSummary):
    head: str
    options: dict[str, Any]
    report: dict[str, Any]
    warnings: list[TrainingWarning]


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


class EvaluationInputs(BaseModel):
    total: int
    evaluated: Annotated[int, Field(description="Inputs that have a class.")]
    negatives: Annotated[int, Field(description="Inputs of none of the classes (label `__none__`).")]
    duplicates: Annotated[int, Field(description="Labels of inputs that were given before; counted once.")]
    in_support_set: Annotated[int, Field(description="Inputs that are examples of the head.")]
    embedded: Annotated[int, Field(description="Inputs that the extractor had to embed.")]
    cached: Annotated[int, Field(description="Inputs whose embedding was cached.")]
    rejected: list[ItemProblem]


class ClassQuality(BaseModel):
    label: str
    support: Annotated[int, Field(description="Inputs of this class.")]
    precision: float | None
    recall: float | None
    f1: float | None


class EvaluateAnswer(BaseModel):
    """Quality of a version on labelled inputs; a figure is null where nothing was counted."""

    head: Annotated[str, Field(examples=["pets"])]
    version: int
    threshold: Annotated[float, Field(description="Typicality below which an input was unknown.")]
    inputs: EvaluationInputs
    accuracy: Annotated[
        float | None,
        Field(description="Share of right answers; of a multi-label head, with every label right."),
    ]
    accuracy_low: Annotated[float | None, Field(description="Lower end of its 95 % interval (Wilson).")]
    accuracy_high: Annotated[float | None, Field(description="Upper end of its 95 % interval (Wilson).")]
    balanced_accuracy: Annotated[float | None, Field(description="Mean recall over the classes.")]
    per_class: list[ClassQuality]
    confusion: Annotated[
        dict[str, Any],
        Field(description="`matrix[i][j]`: inputs of `labels[i]` that were answered `labels[j]`."),
    ]
    calibration_error: Annotated[float | None, Field(description="Expected calibration error.")]
    log_loss: Annotated[float | None, Field(description="Mean, in nats.")]
    unknown_rate: Annotated[
        float | None, Field(description="Share of the inputs that have a class and were answered unknown.")
    ]
    negatives_rejected: Annotated[
        float | None, Field(description="Share of the negatives that were answered unknown.")
    ]
    warnings: list[TrainingWarning]
    timings_ms: dict[str, float]


class HealthAnswer(BaseModel):
    status: Literal["ok"]


class DeviceInfo(BaseModel):
    """A process that owns a device, for all API processes."""

    pid: int
    providers: list[str] = Field(description="What onnxruntime calls the device.")
    batch_sizes: list[int]
    graphs: int = Field(description="Loaded networks.")
    batches: int = Field(description="Batches run since it was started.")
    images: int = Field(description="Images of these batches.")
    waiting: int = Field(description="Images that wait for the device now.")


class ReadyAnswer(BaseModel):
    status: Literal["ready"]
    extractors: list[ExtractorInfo]
    devices: list[DeviceInfo] = Field(description="None where each process uses the device itself.")
