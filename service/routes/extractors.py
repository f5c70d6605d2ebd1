"""`/v1/extractors`: what is loaded, and what is registered."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.http.envelope import answer
from service.routes.common import EngineOf, off_loop
from service.schemas.extractors import ExtractorInfo, ExtractorList
from service.schemas.openapi import errors
from service.store import ExtractorRow
from training.typed_json import plain
from training.variant import FLOAT

OF_SETTINGS = {"kind": "settings"}

router = APIRouter(prefix="/v1/extractors", tags=["extractors"])


@router.get("", response_model=ExtractorList, responses=errors(405, 500, 503))
async def list_extractors(engine: EngineOf) -> Response:
    """List the extractors of HEADSTART_EXTRACTORS, the default first, then those added since."""
    return answer({"extractors": await off_loop(_describe_all, engine.embedders)})


@router.get("/{name}", response_model=ExtractorInfo, responses=errors(404, 405, 422, 500, 503))
async def get_extractor(engine: EngineOf, name: str) -> Response:
    """Describe one extractor. A registered one is not loaded by that."""
    return answer(await off_loop(_describe, engine.embedders, name))


def describe_lasting(embedders: Embedders) -> list[dict[str, Any]]:
    """The extractors that are loaded as long as the process lives."""
    return [_described(embedder, OF_SETTINGS, embedders) for embedder in embedders]


def _describe_all(embedders: Embedders) -> list[dict[str, Any]]:
    registered = [_describe_row(row, embedders) for row in embedders.registered()]
    return [*describe_lasting(embedders), *registered]


def _describe(embedders: Embedders, name: str) -> dict[str, Any]:
    for embedder in embedders:
        if embedder.extractor.name == name:
            return _described(embedder, OF_SETTINGS, embedders)
    return _describe_row(embedders.row(name), embedders)


def _describe_row(row: ExtractorRow, embedders: Embedders) -> dict[str, Any]:
    embedder = embedders.loaded(row.digest)
    if embedder is not None:
        return _described(embedder, row.origin, embedders)
    manifest = row.manifest
    return {
        "name": row.name,
        "digest": row.digest,
        "modality": manifest["modality"],
        "architecture": manifest["architecture"],
        "dim": manifest["output"]["dim"],
        "taps": manifest["taps"],
        "provider": None,
        "precision": FLOAT,
        "gate": None,
        "default": False,
        "loaded": False,
        "origin": row.origin,
        "weights": manifest["weights"],
        "preprocess": manifest["preprocess"],
    }


def _described(embedder: Embedder, origin: Any, embedders: Embedders) -> dict[str, Any]:
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
        "precision": extractor.precision,
        "gate": None if extractor.variant is None else plain(extractor.variant.gate),
        "default": extractor is embedders.default.extractor,
        "loaded": True,
        "origin": origin,
        "weights": asdict(manifest.weights),
        "preprocess": asdict(manifest.preprocess),
    }
