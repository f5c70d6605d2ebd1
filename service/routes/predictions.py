"""`/v1/heads/{name}/predict`: inputs in, calibrated predictions out."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.engine import Engine
from service.envelope import answer
from service.ingest import Batch, read_batch
from service.openapi import INPUT_STATUSES, errors, inputs_body
from service.parameters import HeadName, PredictParameters
from service.predictor import Predicted
from service.routes.common import EngineOf, with_body
from service.schemas import PredictAnswer
from service.store import MULTI_LABEL
from training.heads import Prediction

LABEL_PROBABILITY = 0.5  # from which an input of a multi-label head is said to have a label

router = APIRouter(prefix="/v1/heads", tags=["predictions"])


@router.post(
    "/{name}/predict",
    response_model=PredictAnswer,
    responses=errors(*INPUT_STATUSES),
    openapi_extra=inputs_body(),
)
async def predict(
    request: Request, engine: EngineOf, name: HeadName, query: Annotated[PredictParameters, Query()]
) -> Response:
    """Predict inputs with the published version of a head, or with one named by `version`.

    With a multi-label head the probabilities are independent, and `labels` are those of at least 0.5. With a
    head that learned negatives, `none_probability` is that of none of the classes.
    """
    async with engine.admission.admit(request):
        batch = await read_batch(request, engine.settings, labelled=False)
        parameters = with_body(query, batch.options)
        return await engine.admission.answer(request, _predict, engine, name, batch, parameters)


def _predict(engine: Engine, name: str, batch: Batch, parameters: PredictParameters) -> Response:
    predicted = engine.predictor.predict(
        name,
        batch,
        version=parameters.version,
        threshold=parameters.threshold,
        skip_bad=parameters.on_error == "skip",
    )
    return answer(render(name, predicted, parameters.top_k))


def render(name: str, predicted: Predicted, top_k: int) -> dict[str, Any]:
    return {
        "head": name,
        "version": predicted.version,
        "predictions": [_prediction(predicted, row, top_k) for row in range(len(predicted.intake.inputs))],
        "rejected": [item.as_dict() for item in predicted.intake.rejected],
        "timings_ms": predicted.timings_ms,
    }


def _prediction(predicted: Predicted, row: int, top_k: int) -> dict[str, Any]:
    item = predicted.intake.inputs[row]
    classes = predicted.head.classes
    probabilities = predicted.prediction.probabilities[row]
    ranked = np.argsort(-probabilities, kind="stable")[:top_k]
    return {
        "id": item.id or predicted.intake.keys[row],
        "index": item.index,
        "label": classes[ranked[0]],
        "probability": float(probabilities[ranked[0]]),
        "unknown": bool(predicted.prediction.unknown[row]),
        "typicality": float(predicted.prediction.typicality[row]),
        "probabilities": [
            {"label": classes[column], "probability": float(probabilities[column])} for column in ranked
        ],
        **_beside(predicted.prediction, row),
    }


def _beside(prediction: Prediction, row: int) -> dict[str, Any]:
    """What only the predictions of some heads have."""
    fields: dict[str, Any] = {}
    if prediction.task == MULTI_LABEL:
        probabilities = prediction.probabilities[row]
        ranked = np.argsort(-probabilities, kind="stable")
        fields["labels"] = [
            prediction.classes[column] for column in ranked if probabilities[column] >= LABEL_PROBABILITY
        ]
    if prediction.negative is not None:
        fields["none_probability"] = float(prediction.negative[row])
    return fields
