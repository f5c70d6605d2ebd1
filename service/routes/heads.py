"""`/v1/heads`: create or replace, list, describe, delete, train."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.engine import Engine
from service.errors import ApiError
from service.exchange.importer import is_imported
from service.http.envelope import answer
from service.ingest import read_batch
from service.learning.layers import layers_in
from service.learning.learner import Taught
from service.learning.train_options import RETAINED, TrainOptions
from service.routes.common import EngineOf, off_loop, read_model, with_body
from service.schemas.heads import HeadDescription, HeadPage, TaughtAnswer
from service.schemas.openapi import INPUT_STATUSES, STATE_STATUSES, errors, examples_body, json_body
from service.schemas.parameters import (
    CreateParameters,
    Cursor,
    FitParameters,
    HeadName,
    Limit,
    TrainParameters,
    TrainRequest,
)
from service.store import HeadRow, HeadSummary
from training.heads import AUTO, NEGATIVE_LABEL, FitOptions

router = APIRouter(prefix="/v1/heads", tags=["heads"])

DEFAULTS = FitOptions()


@router.put(
    "/{name}",
    status_code=201,
    response_model=TaughtAnswer,
    responses=errors(*INPUT_STATUSES),
    openapi_extra=examples_body(),
)
async def put_head(
    request: Request, engine: EngineOf, name: HeadName, query: Annotated[CreateParameters, Query()]
) -> Response:
    """Create a head from labelled examples, or replace the examples of an existing one.

    Trains and publishes a version at once. How it is fitted starts from the defaults, whatever the head was
    like. A replaced head keeps its earlier versions. In a multi-label head (`task=multi_label`) an input may
    have several labels: post it under each, or in JSON with `labels`. The label `__none__` is for inputs of
    none of the classes. With `keep_inputs=false` only the embeddings of the examples are stored, and what a
    replaced head kept is deleted.
    """
    with engine.admission.admit(request):
        batch = await read_batch(request, engine.settings, labelled=True, label=query.label)
        parameters = with_body(query, batch.options)
        taught = await engine.admission.answer(
            request,
            engine.learner.replace,
            name,
            batch,
            extractor=parameters.extractor,
            task=parameters.task,
            keep_inputs=parameters.keep_inputs,
            train=train_options(parameters, anew=True) if parameters.train else None,
            skip_bad=parameters.on_error == "skip",
        )
    return answer(render_taught(taught), 201)


@router.get("", response_model=HeadPage, responses=errors(405, 422, 500, 503))
async def list_heads(engine: EngineOf, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """List heads by name, a page at a time."""
    page = await off_loop(engine.store.heads.list, cursor, limit)
    return answer({"heads": [summarise(row) for row in page.items], "next": page.next_after})


@router.get("/{name}", response_model=HeadDescription, responses=errors(404, 405, 422, 500, 503))
async def get_head(engine: EngineOf, name: HeadName) -> Response:
    """Describe a head: its classes, its published version and that version's report."""
    return answer(await off_loop(describe_head, engine, name))


@router.delete("/{name}", status_code=204, responses=errors(404, 405, 422, 500, 503))
async def delete_head(engine: EngineOf, name: HeadName) -> Response:
    """Delete a head with its examples, their inputs and its versions, and embeddings that only it used."""
    await off_loop(engine.store.heads.delete, name)
    return Response(status_code=204)


@router.post(
    "/{name}/train",
    status_code=201,
    response_model=TaughtAnswer,
    responses=errors(*STATE_STATUSES),
    openapi_extra=json_body(TrainRequest, required=False),
)
async def train_head(
    request: Request, engine: EngineOf, name: HeadName, query: Annotated[TrainParameters, Query()]
) -> Response:
    """Train a new version from the support set as it is. Nothing is embedded again.

    How it is fitted is as in the newest version of the head, except for what the request says.
    """
    body = await read_model(request, TrainRequest)
    parameters = with_body(query, body.model_dump(exclude_unset=True, exclude={"classes"}))
    classes = None if body.classes is None else tuple(body.classes)
    taught = await off_loop(engine.learner.train, name, train_options(parameters, classes))
    return answer(render_taught(taught), 201)


def train_options(
    parameters: FitParameters, classes: tuple[str, ...] | None = None, *, anew: bool = False
) -> TrainOptions:
    """The options of a request; what it leaves out is as in the version before, or the default if `anew`."""
    said = None if anew else frozenset(parameters.model_fields_set) & frozenset(RETAINED)
    publish = parameters.publish if isinstance(parameters, TrainParameters) else True
    return TrainOptions(fit=_fit_options(parameters), classes=classes, publish=publish, said=said)


def _fit_options(parameters: FitParameters) -> FitOptions:
    rate, layers = parameters.unknown_rate, parameters.layers
    return FitOptions(
        regularisation=parameters.regularisation,
        transform=None if parameters.transform == AUTO else parameters.transform,
        unknown_rate=DEFAULTS.unknown_rate if rate is None else rate,
        threshold=parameters.threshold,
        layers=DEFAULTS.layers if layers is None else _layers(layers),
    )


def _layers(text: str) -> tuple[str, ...] | Literal["auto"]:
    names = tuple(text.split(","))
    if len(set(names)) < len(names):
        raise ApiError(422, "invalid_parameter", f"a layer is named twice in {text!r}", param="layers")
    if AUTO in names and len(names) > 1:
        raise ApiError(422, "invalid_parameter", f"{AUTO!r} goes with no other layer", param="layers")
    return AUTO if names == (AUTO,) else names


def render_taught(taught: Taught) -> dict[str, Any]:
    """The answer to every change of a support set."""
    counts = taught.counts
    trained = taught.trained
    return {
        "head": taught.head.name,
        "version": taught.version,
        "published": taught.version is not None and taught.version == taught.head.published_version,
        "task": taught.head.task,
        "keep_inputs": taught.head.keep_inputs,
        "classes": list(taught.classes),
        "extractor": _extractor(taught.head),
        "layers": None if trained is None else list(trained.report.layers),
        "examples": {
            "total": counts.total,
            "added": counts.added,
            "duplicates": counts.duplicates,
            "embedded": counts.embedded,
            "cached": counts.cached,
            "rejected": [item.as_dict() for item in counts.rejected],
            "ids": list(taught.example_ids),
        },
        "report": None if trained is None else trained.report.as_dict(),
        "warnings": [] if trained is None else list(trained.report.warnings),
        "timings_ms": taught.timings_ms,
    }


def summarise(row: HeadSummary) -> dict[str, Any]:
    head = row.head
    return {
        "head": head.name,
        "task": head.task,
        "extractor": _extractor(head),
        "published_version": head.published_version,
        "last_version": head.last_version or None,
        "classes": [
            {"label": label, "examples": count}
            for label, count in row.label_counts.items()
            if label != NEGATIVE_LABEL
        ],
        "negatives": row.label_counts.get(NEGATIVE_LABEL, 0),
        "examples": sum(row.label_counts.values()),
        "keep_inputs": head.keep_inputs,
        "created_at": head.created_at.isoformat(),
        "updated_at": head.updated_at.isoformat(),
        "published_classes": [] if row.published is None else list(row.published.classes),
    }


def describe_head(engine: Engine, name: str) -> dict[str, Any]:
    row = engine.store.heads.summary(name)
    published = row.published
    version = None if published is None else engine.store.versions.get(name, published.number)
    return {
        **summarise(row),
        "up_to_date": version is not None
        and version.revision == row.head.revision
        and not is_imported(version),
        "layers": None if version is None else list(layers_in(version)),
        "report": None if version is None else version.report,
        "warnings": [] if version is None else list(version.warnings),
    }


def _extractor(row: HeadRow) -> dict[str, str]:
    return {"name": row.extractor_name, "digest": row.extractor_digest}
