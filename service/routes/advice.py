"""`/v1/heads/{name}/advise`: which case of transfer the examples of a head are, and what to do."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.http.envelope import answer
from service.review.adviser import Advised
from service.review.steps import more_examples, rest_step
from service.routes.common import EngineOf, off_loop
from service.schemas.advice import AdviceAnswer
from service.schemas.openapi import errors
from service.schemas.parameters import HeadName

router = APIRouter(prefix="/v1/heads", tags=["heads"])


@router.post("/{name}/advise", response_model=AdviceAnswer, responses=errors(404, 405, 409, 422, 500, 503))
async def advise_head(engine: EngineOf, name: HeadName) -> Response:
    """Say which of the four cases of transfer the examples of a head are, from measurements, and what to do.

    Works on cached embeddings: nothing is embedded, nothing is changed.
    """
    return answer(_render(await off_loop(engine.adviser.advise, name)))


def _render(advised: Advised) -> dict[str, Any]:
    name, advice, found = advised.head.name, advised.advice, advised.advice.as_dict()
    plans = [advice.recommended, *advice.alternatives]
    steps = [rest_step(plan, name) for plan in plans]
    if not advice.enough_data:
        steps[0] = more_examples(name)
    shown = [
        {**plan, "next": step}
        for plan, step in zip([found["recommended"], *found["alternatives"]], steps, strict=True)
    ]
    warnings = found["warnings"]
    if advised.kept < advised.inputs and any(plan.layers is None for plan in plans):
        warnings.append(_not_kept(advised))
    return {
        **found,
        "head": name,
        "version": advised.head.published_version,
        "extractor": {"name": advised.extractor_name, "digest": advised.head.extractor_digest},
        "recommended": shown[0],
        "alternatives": shown[1:],
        "timings_ms": advised.timings_ms,
    }


def _not_kept(advised: Advised) -> dict[str, str]:
    missing = advised.inputs - advised.kept
    return {
        "code": "inputs_not_kept",
        "message": f"{missing} of {advised.inputs} images were not kept, and training layers of the network "
        "needs them: create the head anew with keep_inputs=true.",
    }
