"""The page at `/` and the readable API documentation at `/docs`: static files, no inline script."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from service.errors import ApiError

router = APIRouter(include_in_schema=False)

UI = Path(str(files("service"))) / "ui"
SWAGGER = Path(str(files("fastapi_swagger"))) / "resources"
ASSETS = {
    **{path.name: path for path in UI.iterdir() if path.suffix in {".js", ".css", ".svg"}},
    **{name: SWAGGER / name for name in ("swagger-ui-bundle.js", "swagger-ui.css")},
}


@router.get("/")
async def page() -> Response:
    """Teach and try a head in the browser."""
    return FileResponse(UI / "index.html")


@router.get("/docs")
async def docs() -> Response:
    """The OpenAPI document, readable."""
    return FileResponse(UI / "docs.html")


@router.get("/assets/{name}")
async def asset(name: str) -> Response:
    """A script or style sheet of the pages."""
    if name not in ASSETS:
        raise ApiError(404, "not_found", f"there is no asset {name!r}")
    return FileResponse(ASSETS[name])
