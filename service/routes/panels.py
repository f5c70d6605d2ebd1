"""`/v1/predict`: inputs in, the predictions of many heads out, with one pass of each extractor."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.engine import Engine
from service.errors import ApiError
from service.http.envelope import answer
from service.ingest import Batch, read_batch
from service.prediction.panel import Panel
from service.routes.common import EngineOf, with_body
from service.routes.lines import Answered, LineResponse, require_inputs, wants_lines
from service.schemas.openapi import INPUT_STATUSES, errors, lines_answer, panel_body
from service.schemas.panels import PanelAnswer
from service.schemas.parameters import PanelParameters

# Of one answer that is built as a whole: some hundred megabytes at most.
MOST_VALUES = 250_000

router = APIRouter(prefix="/v1/predict", tags=["predictions"])


@router.post(
    "",
    response_model=PanelAnswer,
    responses={**lines_answer(), **errors(*INPUT_STATUSES)},
    openapi_extra=panel_body(),
)
async def predict_many(
    request: Request, engine: EngineOf, query: Annotated[PanelParameters, Query()]
) -> Response:
    """Predict inputs with the published versions of many heads; each input is embedded once.

    `heads` are names and patterns such as `line1.*`; `*` is every published head. With
    `Accept: application/x-ndjson` each input is a line of its own, as soon as it is done; a last line has the
    `summary`.
    """
    with engine.admission.admit(request) as place:
        batch = await read_batch(request, engine.settings, labelled=False)
        parameters = with_body(query, batch.options)
        if not parameters.heads:
            message = "expected at least one head: heads=NAME,NAME or heads=*"
            raise ApiError(422, "no_heads", message, param="heads")
        if not wants_lines(request):
            return await engine.admission.answer(request, _predict, engine, batch, parameters)
        panel = await engine.admission.answer(request, _seat, engine, parameters)
        _require_room(panel, 1, parameters.top_k)
        require_inputs(batch)
        work = partial(_work, engine, panel, parameters)
        return LineResponse(request, engine, batch, work, about=_about(panel), place=place.keep())


def _work(engine: Engine, panel: Panel, parameters: PanelParameters, part: Batch) -> Answered:
    found = engine.panel_predictor.predict(
        panel, part, threshold=parameters.threshold, top_k=parameters.top_k, skip_bad=True
    )
    return Answered(found.rendered(), found.rejected)


def _about(panel: Panel) -> dict[str, Any]:
    skipped = [one.as_dict() for one in panel.roster.skipped]
    return {"heads": len(panel.roster.names), "skipped": skipped}


def _predict(engine: Engine, batch: Batch, parameters: PanelParameters) -> Response:
    how: dict[str, Any] = {
        "threshold": parameters.threshold,
        "top_k": parameters.top_k,
        "skip_bad": parameters.on_error == "skip",
    }

    def seat() -> Panel:
        panel = _seat(engine, parameters)
        _require_room(panel, batch.total, parameters.top_k)
        return panel

    expected = engine.panels.expected(parameters.heads) if batch.total == 1 else ()
    if expected:  # a small request does not wait for the database before it embeds
        panel, found = engine.panel_predictor.predict_while(seat, expected, batch, **how)
    else:
        panel = seat()
        found = engine.panel_predictor.predict(panel, batch, **how)
    return answer(
        {
            "predictions": found.rendered(),
            "rejected": [item.as_dict() for item in found.rejected],
            "skipped": [one.as_dict() for one in panel.roster.skipped],
            "timings_ms": found.timings_ms,
        }
    )


def _seat(engine: Engine, parameters: PanelParameters) -> Panel:
    return engine.panels.seat(parameters.heads, skip=parameters.on_error == "skip")


def _require_room(panel: Panel, inputs: int, top_k: int) -> None:
    """Refuse what would be too large an answer, before anything is embedded."""
    if inputs * len(panel.roster.names) * top_k <= MOST_VALUES:
        return
    of_one = sum(min(top_k, len(head.classes)) for head in panel.stacked.heads)
    if inputs * of_one > MOST_VALUES:
        message = (
            f"the answer would have {inputs * of_one} probabilities, and can have {MOST_VALUES}: ask for"
            " fewer heads, inputs or `top_k`, or for one line for each input (Accept: application/x-ndjson)"
        )
        raise ApiError(413, "answer_too_large", message)
