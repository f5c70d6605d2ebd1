"""`/v1/heads/{name}/predict`: inputs in, calibrated predictions out."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.engine import Engine
from service.http.envelope import answer
from service.ingest import Batch, read_batch
from service.prediction.head_answer import head_answer
from service.prediction.predictor import Predicted
from service.routes.common import EngineOf, with_body
from service.routes.lines import Answered, LineResponse, require_inputs, wants_lines
from service.schemas.openapi import INPUT_STATUSES, errors, inputs_body, lines_answer
from service.schemas.parameters import HeadName, PredictParameters
from service.schemas.predictions import PredictAnswer
from training.heads import Head

router = APIRouter(prefix="/v1/heads", tags=["predictions"])


@router.post(
    "/{name}/predict",
    response_model=PredictAnswer,
    responses={**lines_answer(), **errors(*INPUT_STATUSES)},
    openapi_extra=inputs_body(),
)
async def predict(
    request: Request, engine: EngineOf, name: HeadName, query: Annotated[PredictParameters, Query()]
) -> Response:
    """Predict inputs with the published version of a head, or with one named by `version`.

    With a multi-label head the probabilities are independent, and `labels` are those of at least 0.5. With a
    head that learned negatives, `none_probability` is that of none of the classes. With
    `Accept: application/x-ndjson` each input is a line of its own, as soon as it is done; a last line has the
    `summary`.
    """
    with engine.admission.admit(request) as place:
        batch = await read_batch(request, engine.settings, labelled=False)
        parameters = with_body(query, batch.options)
        if not wants_lines(request):
            brief, inputs = engine.admission.answer_brief, len(batch.inputs)
            return await brief(request, inputs, _predict, engine, name, batch, parameters)
        find = engine.predictor.find
        number, found = await engine.admission.answer(request, find, name, parameters.version)
        require_inputs(batch)
        work = partial(_work, engine, number, found, parameters)
        about = {"head": name, "version": number}
        return LineResponse(request, engine, batch, work, about=about, place=place.keep())


def _predict(engine: Engine, name: str, batch: Batch, parameters: PredictParameters) -> Response:
    predicted = engine.predictor.predict(
        name,
        batch,
        version=parameters.version,
        threshold=parameters.threshold,
        skip_bad=parameters.on_error == "skip",
    )
    return answer(render(name, predicted, parameters.top_k))


def _work(engine: Engine, number: int, head: Head, parameters: PredictParameters, part: Batch) -> Answered:
    found = engine.predictor.answer(number, head, part, threshold=parameters.threshold, skip_bad=True)
    return Answered(_predictions(found, parameters.top_k), found.intake.rejected)


def render(name: str, predicted: Predicted, top_k: int) -> dict[str, Any]:
    return {
        "head": name,
        "version": predicted.version,
        "predictions": _predictions(predicted, top_k),
        "rejected": [item.as_dict() for item in predicted.intake.rejected],
        "timings_ms": predicted.timings_ms,
    }


def _predictions(predicted: Predicted, top_k: int) -> list[dict[str, Any]]:
    return [_prediction(predicted, row, top_k) for row in range(len(predicted.intake.inputs))]


def _prediction(predicted: Predicted, row: int, top_k: int) -> dict[str, Any]:
    item = predicted.intake.inputs[row]
    found = head_answer(predicted.prediction, row, top_k)
    return {"id": item.id or predicted.intake.keys[row], "index": item.index, **found}
