"""What OpenAPI says of access: how a key is sent, the scope that each operation needs, what is refused."""

from typing import Any

from fastapi import FastAPI

from service.access.scopes import METRICS, PREDICT, SCOPE_OF
from service.schemas.openapi import errors

SCHEME = "key"
KEY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "hs_ID_SECRET",
    "description": "An API key, made with `headstart keys create --scope predict|train|admin`; each scope"
    " allows what those before it do. As long as no key was ever made, the server answers without one, but"
    " only to the machine that it runs on.",
}
REFUSALS = (400, 401, 403, 429)
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}


def document_access(app: FastAPI) -> None:
    """Let the OpenAPI document of an application tell what each operation needs."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _declare(FastAPI.openapi(app))
        assert app.openapi_schema is not None  # noqa: S101 - FastAPI keeps what it made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _declare(document: dict[str, Any]) -> None:
    document["components"].setdefault("securitySchemes", {})[SCHEME] = KEY_SCHEME
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            scope = PREDICT if name == METRICS else SCOPE_OF.get(name)
            if scope is None:
                operation["security"] = []
                continue
            # The empty one: without it while there is no key, and `/metrics` unless the settings ask for one.
            operation["security"] = [{SCHEME: [scope]}, {}]
            for status, refusal in errors(*REFUSALS).items():
                described = {"description": refusal["description"], "content": ERROR}
                operation["responses"].setdefault(str(status), described)
