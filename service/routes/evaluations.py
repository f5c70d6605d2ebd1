"""`/v1/heads/{name}/evaluate`: labelled inputs in, how good the head is on them out."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.http.envelope import answer
from service.ingest import read_batch
from service.prediction.evaluator import Evaluated
from service.routes.common import EngineOf, with_body
from service.schemas.evaluations import EvaluateAnswer
from service.schemas.openapi import INPUT_STATUSES, errors, examples_body
from service.schemas.parameters import EvaluateParameters, HeadName

router = APIRouter(prefix="/v1/heads", tags=["predictions"])


@router.post(
    "/{name}/evaluate",
    response_model=EvaluateAnswer,
    responses=errors(*INPUT_STATUSES),
    openapi_extra=examples_body(),
)
async def evaluate(
    request: Request, engine: EngineOf, name: HeadName, query: Annotated[EvaluateParameters, Query()]
) -> Response:
    """Measure a version on labelled inputs that it has not learned from. Nothing is learned from them.

    An input under the label `__none__` is of none of the classes. An input of a multi-label head has all the
    labels that it is given.
    """
    with engine.admission.admit(request):
        batch = await read_batch(request, engine.settings, labelled=True, label=query.label)
        parameters = with_body(query, batch.options)
        evaluated = await engine.admission.answer(
            request,
            engine.evaluator.evaluate,
            name,
            batch,
            version=parameters.version,
            threshold=parameters.threshold,
            skip_bad=parameters.on_error == "skip",
        )
    return answer(_render(name, evaluated))


def _render(name: str, evaluated: Evaluated) -> dict[str, Any]:
    intake = evaluated.intake
    figures = asdict(evaluated.evaluation)
    return {
        "head": name,
        "version": evaluated.version,
        "threshold": evaluated.threshold,
        "inputs": {
            "total": len(intake.inputs) + len(intake.rejected),
            "evaluated": figures.pop("inputs"),
            "negatives": figures.pop("negatives"),
            "duplicates": evaluated.counts.duplicates,
            "in_support_set": evaluated.in_support_set,
            "embedded": evaluated.counts.embedded,
            "cached": evaluated.counts.cached,
            "rejected": [item.as_dict() for item in intake.rejected],
        },
        **figures,
        "warnings": list(evaluated.warnings),
        "timings_ms": evaluated.timings_ms,
    }
