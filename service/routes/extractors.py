"""`/v1/extractors`: what is loaded."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.embedder import Embedder
from service.envelope import answer
from service.openapi import errors
from service.routes.common import EngineOf
from service.schemas import ExtractorInfo, ExtractorList

router = APIRouter(prefix="/v1/extractors", tags=["extractors"])


@router.get("", response_model=ExtractorList, responses=errors(405, 500, 503))
async def list_extractors(engine: EngineOf) -> Response:
    """List the loaded extractors; the first is the default."""
    return answer({"extractors": describe_all(engine)})


@router.get("/{name}", response_model=ExtractorInfo, responses=errors(404, 405, 422, 500, 503))
async def get_extractor(engine: EngineOf, name: str) -> Response:
    """Describe one extractor."""
    return answer(describe(engine.embedders.named(name), engine))


def describe_all(engine: EngineOf) -> list[dict[str, Any]]:
    return [describe(embedder, engine) for embedder in engine.embedders]


def describe(embedder: Embedder, engine: EngineOf) -> dict[str, Any]:
    extractor = embedder.extractor
    manifest = extractor.manifest
    return {
        "name": extractor.name,
        "digest": extractor.digest,
        "modality": manifest.modality,
        "architecture": manifest.architecture,
        "dim": extractor.dim,
        "taps": [asdict(tap) for tap in manifest.taps],
        "provider": extractor.provider,
        "precision": "fp32",
        "default": embedder is engine.embedders.named(None),
        "weights": asdict(manifest.weights),
        "preprocess": asdict(manifest.preprocess),
    }
