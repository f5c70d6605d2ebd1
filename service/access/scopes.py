"""The scope that every operation of the REST surface needs: one table, read top to bottom by a reviewer.

An application with an operation that is not in it does not start. Knows neither keys nor who checks them.
"""

from collections.abc import Iterable
from typing import Literal

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

Scope = Literal["predict", "train", "admin"]
SCOPES: tuple[Scope, ...] = ("predict", "train", "admin")  # each allows what those before it do

PREDICT: Scope = "predict"
TRAIN: Scope = "train"
ADMIN: Scope = "admin"

SCOPE_OF: dict[str, Scope] = {
    "GET /v1/extractors": PREDICT,
    "GET /v1/extractors/{name}": PREDICT,
    "POST /v1/embeddings": PREDICT,
    "GET /v1/heads": PREDICT,
    "GET /v1/heads/{name}": PREDICT,
    "PUT /v1/heads/{name}": TRAIN,
    "DELETE /v1/heads/{name}": TRAIN,
    "POST /v1/heads/{name}/train": TRAIN,
    "POST /v1/heads/{name}/move": TRAIN,
    "POST /v1/heads/{name}/finetune": TRAIN,
    "POST /v1/heads/{name}/advise": TRAIN,
    "POST /v1/predict": PREDICT,
    "POST /v1/heads/{name}/predict": PREDICT,
    "POST /v1/heads/{name}/evaluate": PREDICT,
    "GET /v1/heads/{name}/checks": TRAIN,
    # Examples are what users labelled, and versions can be taken away as files: more than a caller needs.
    "GET /v1/heads/{name}/examples": TRAIN,
    "POST /v1/heads/{name}/examples": TRAIN,
    "PATCH /v1/heads/{name}/examples": TRAIN,
    "DELETE /v1/heads/{name}/examples": TRAIN,
    "GET /v1/heads/{name}/examples/{example_id}": TRAIN,
    "PATCH /v1/heads/{name}/examples/{example_id}": TRAIN,
    "DELETE /v1/heads/{name}/examples/{example_id}": TRAIN,
    "GET /v1/heads/{name}/examples/{example_id}/input": TRAIN,
    "GET /v1/heads/{name}/export": TRAIN,
    "POST /v1/heads/{name}/import": TRAIN,
    "GET /v1/heads/{name}/versions": PREDICT,
    "GET /v1/heads/{name}/versions/{number}": PREDICT,
    "POST /v1/heads/{name}/versions": TRAIN,
    "POST /v1/heads/{name}/versions/{number}/publish": TRAIN,
    "GET /v1/jobs": TRAIN,
    "GET /v1/jobs/{job_id}": TRAIN,
    "GET /v1/jobs/{job_id}/events": TRAIN,
    "POST /v1/jobs/{job_id}/cancel": TRAIN,
    "GET /v1/audit": ADMIN,
}
# Calls that ask and change nothing, though they have a body.
ASKING = frozenset(
    {
        "POST /v1/embeddings",
        "POST /v1/predict",
        "POST /v1/heads/{name}/predict",
        "POST /v1/heads/{name}/evaluate",
        "POST /v1/heads/{name}/advise",
    }
)
# For monitors and browsers. `/metrics` needs a key with PREDICT where the settings say so.
METRICS = "GET /metrics"
OPEN = frozenset({"GET /livez", "GET /healthz", "GET /readyz", METRICS})


def allows(scope: str, needed: Scope) -> bool:
    """Whether a key of one scope may do what needs another."""
    return scope in SCOPES and SCOPES.index(scope) >= SCOPES.index(needed)


def is_write(operation: str) -> bool:
    """Whether an operation changes something."""
    return not operation.startswith("GET ") and operation not in ASKING


def require_declared(routes: Iterable[BaseRoute]) -> None:
    """Refuse an application with an operation that has no scope.

    Raises
    ------
    LookupError
    """
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = f"{method} {route.path}"
                if operation not in SCOPE_OF and operation not in OPEN:
                    raise LookupError(f"{operation}: declare the scope it needs in service/access/scopes.py")
