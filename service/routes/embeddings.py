"""`/v1/embeddings`: inputs in, embeddings out, in the shape of the OpenAI API."""

import base64
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.engine import Engine
from service.errors import ApiError
from service.http.envelope import answer
from service.ingest import Batch, read_batch
from service.inputs.intake import Intake
from service.routes.common import EngineOf, with_body
from service.schemas.embeddings import EmbeddingAnswer
from service.schemas.openapi import INPUT_STATUSES, errors, inputs_body
from service.schemas.parameters import EmbeddingParameters

router = APIRouter(prefix="/v1/embeddings", tags=["embeddings"])


@router.post(
    "",
    response_model=EmbeddingAnswer,
    responses=errors(*INPUT_STATUSES),
    openapi_extra=inputs_body(),
)
async def create_embeddings(
    request: Request, engine: EngineOf, query: Annotated[EmbeddingParameters, Query()]
) -> Response:
    """Embed inputs. Inputs that were embedded before come from the cache."""
    with engine.admission.admit(request):
        batch = await read_batch(request, engine.settings, labelled=False)
        parameters = with_body(query, batch.options)
        brief, inputs = engine.admission.answer_brief, len(batch.inputs)
        return await brief(request, inputs, _embed, engine, batch, parameters)


def _embed(engine: Engine, batch: Batch, parameters: EmbeddingParameters) -> Response:
    embedder = engine.embedders.named(parameters.model)
    extractor = embedder.extractor
    if parameters.dimensions not in (None, extractor.dim):
        raise ApiError(
            422,
            "invalid_parameter",
            f"{extractor.name} gives {extractor.dim} dimensions, not {parameters.dimensions}",
            param="dimensions",
        )
    intake = Intake.of(batch, embedder, skip_bad=False)
    engine.writer.add(extractor.digest, intake.embedded.computed)
    embedded = sum(key in intake.embedded.computed for key in intake.keys)
    data = [
        {"object": "embedding", "index": index, "embedding": _encode(vector, parameters.encoding_format)}
        for index, vector in enumerate(intake.matrix()[:, : extractor.dim])
    ]
    return answer(
        {
            "object": "list",
            "model": extractor.name,
            "data": data,
            "usage": {"prompt_tokens": 0, "total_tokens": 0},
            "embedded": embedded,
            "cached": len(data) - embedded,
            "timings_ms": {
                "decode": round(intake.embedded.decode_s * 1e3, 3),
                "embed": round(intake.embedded.embed_s * 1e3, 3),
                "total": round(intake.wall_s * 1e3, 3),
            },
        }
    )


def _encode(vector: npt.NDArray[np.float32], encoding_format: str) -> Any:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return vector
