"""`/v1/heads/{name}/finetune`: train the extractor of a head further, as a job."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.envelope import answer
from service.routes.common import EngineOf, off_loop, read_model
from service.routes.jobs import describe_job
from service.schemas.jobs import JobDescription
from service.schemas.openapi import STATE_STATUSES, errors, json_body
from service.schemas.parameters import FinetuneRequest, HeadName

router = APIRouter(prefix="/v1/heads", tags=["jobs"])


@router.post(
    "/{name}/finetune",
    status_code=202,
    response_model=JobDescription,
    responses={
        202: {
            "description": "The job is queued.",
            "headers": {"Location": {"description": "Path of the job.", "schema": {"type": "string"}}},
        },
        **errors(*STATE_STATUSES),
    },
    openapi_extra=json_body(FinetuneRequest, required=False),
)
async def finetune_head(request: Request, engine: EngineOf, name: HeadName) -> Response:
    """Train the network behind a head further on the inputs that the head keeps, in a worker.

    Gives a new extractor and a version of the head on it, judged on inputs that were not trained on. The head
    serves as before until then; it goes to the new extractor only if the version is better beyond doubt and
    `publish` is `better`.
    """
    body = await read_model(request, FinetuneRequest)
    row = await off_loop(engine.finetuner.queue, name, body)
    described = await off_loop(describe_job, engine, row)
    return answer(described, 202, {"Location": f"/v1/jobs/{row.id}"})
