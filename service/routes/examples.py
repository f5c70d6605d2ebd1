"""`/v1/heads/{name}/examples`: add, list, describe, relabel, remove, one by one or a whole class at once."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.http.envelope import answer
from service.ingest import read_batch, validate_label
from service.learning.train_options import TrainOptions
from service.routes.common import EngineOf, off_loop, read_model, with_body
from service.routes.heads import render_taught, train_options
from service.schemas.examples import ExampleInfo, ExamplePage
from service.schemas.heads import TaughtAnswer
from service.schemas.openapi import INPUT_STATUSES, STATE_STATUSES, errors, examples_body, json_body
from service.schemas.parameters import (
    MAX_LABEL,
    AddParameters,
    ExampleId,
    HeadName,
    Limit,
    Position,
    RelabelRequest,
    TrainParameters,
)
from service.store import ExampleRow

router = APIRouter(prefix="/v1/heads/{name}/examples", tags=["examples"])

OfLabel = Annotated[
    str, Query(min_length=1, max_length=MAX_LABEL, description="Label of the examples.", examples=["bird"])
]
Train = Annotated[bool, Query(description="Train a new version from the changed support set.")]


@router.post(
    "",
    status_code=201,
    response_model=TaughtAnswer,
    responses={200: {"model": TaughtAnswer, "description": "Nothing new."}, **errors(*INPUT_STATUSES)},
    openapi_extra=examples_body(),
)
async def add_examples(
    request: Request, engine: EngineOf, name: HeadName, query: Annotated[AddParameters, Query()]
) -> Response:
    """Add labelled examples and train a new version.

    Answers 200 if every example is there already under the same label: nothing changes, nothing is trained.
    Under another label it is a conflict in a single-label head, and a further label in a multi-label head.
    """
    with engine.admission.admit(request):
        batch = await read_batch(request, engine.settings, labelled=True, label=query.label)
        parameters = with_body(query, batch.options)
        taught = await engine.admission.answer(
            request,
            engine.learner.add,
            name,
            batch,
            train=train_options(parameters) if parameters.train else None,
            skip_bad=parameters.on_error == "skip",
        )
    return answer(render_taught(taught), 201 if taught.example_ids else 200)


@router.get("", response_model=ExamplePage, responses=errors(404, 405, 422, 500, 503))
async def list_examples(
    engine: EngineOf,
    name: HeadName,
    limit: Limit = 100,
    cursor: Position = None,
    label: Annotated[str | None, Query(max_length=MAX_LABEL)] = None,
) -> Response:
    """List the examples of a head in the order they came, a page at a time."""
    wanted = None if label is None else validate_label(label, "label")
    page = await off_loop(engine.store.examples.list, name, cursor, limit, wanted)
    return answer({"examples": [describe_example(row) for row in page.items], "next": page.next_after})


@router.patch(
    "",
    response_model=TaughtAnswer,
    responses=errors(*STATE_STATUSES),
    openapi_extra=json_body(RelabelRequest),
)
async def rename_class(
    request: Request, engine: EngineOf, name: HeadName, label: OfLabel, train: Train = True
) -> Response:
    """Give every example of a label another label and train a new version: renames a class.

    The other label may be a class already: the two are merged. An input of a multi-label head that has both
    then has it once.
    """
    to = validate_label((await read_model(request, RelabelRequest)).label, "label")
    taught = await off_loop(
        engine.learner.rename_label, name, validate_label(label, "label"), to, train=_options(train)
    )
    return answer(render_taught(taught))


@router.delete("", response_model=TaughtAnswer, responses=errors(*STATE_STATUSES))
async def delete_class(engine: EngineOf, name: HeadName, label: OfLabel, train: Train = True) -> Response:
    """Remove every example of a label and train a new version: removes a class."""
    taught = await off_loop(
        engine.learner.remove_label, name, validate_label(label, "label"), train=_options(train)
    )
    return answer(render_taught(taught))


@router.get("/{example_id}", response_model=ExampleInfo, responses=errors(404, 405, 422, 500, 503))
async def get_example(engine: EngineOf, name: HeadName, example_id: ExampleId) -> Response:
    """Describe one example."""
    return answer(describe_example(await off_loop(engine.store.examples.get, name, example_id)))


@router.patch(
    "/{example_id}",
    response_model=TaughtAnswer,
    responses=errors(*STATE_STATUSES),
    openapi_extra=json_body(RelabelRequest),
)
async def relabel_example(
    request: Request, engine: EngineOf, name: HeadName, example_id: ExampleId, train: Train = True
) -> Response:
    """Give one example another label, which its input must not have yet, and train a new version."""
    body = await read_model(request, RelabelRequest)
    label = validate_label(body.label, "label")
    taught = await off_loop(engine.learner.relabel, name, example_id, label, train=_options(train))
    return answer(render_taught(taught))


@router.delete("/{example_id}", response_model=TaughtAnswer, responses=errors(*STATE_STATUSES))
async def delete_example(
    engine: EngineOf, name: HeadName, example_id: ExampleId, train: Train = True
) -> Response:
    """Remove one example and train a new version."""
    taught = await off_loop(engine.learner.remove, name, example_id, train=_options(train))
    return answer(render_taught(taught))


def _options(train: bool) -> TrainOptions | None:
    return train_options(TrainParameters()) if train else None


def describe_example(row: ExampleRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "label": row.label,
        "source_id": row.source_id,
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "created_at": row.created_at.isoformat(),
        "kept": row.kept,
    }
